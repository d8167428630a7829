package cmd_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// setupOthers sets $FIXTURE, the data directory that the Python package has written,
// $DEPLOY, and a PATH with the place of nginx in Debian.
func setupOthers(env *testscript.Env) error {
	fixture, err := filepath.Abs("testdata/python-0.3.2")
	if err != nil {
		return err
	}
	env.Setenv("FIXTURE", fixture)
	deploy, err := filepath.Abs("../deploy")
	if err != nil {
		return err
	}
	env.Setenv("DEPLOY", deploy)
	env.Setenv("PATH", env.Getenv("PATH")+string(os.PathListSeparator)+"/usr/sbin")
	return nil
}

// nginxConf is the configuration around the servers of a script. All files of nginx are
// below Dir; paths in the script's part begin in its working directory. A single process
// ends when it is killed. The log has a line for each answer.
var nginxConf = template.Must(template.New("").Parse(`daemon off;
master_process off;
error_log stderr notice;
pid {{.Dir}}/pid;
events {}
http {
	types { text/plain txt; application/json json; }
	default_type application/octet-stream;
	log_format story '$request_method $request_uri $server_protocol $status $body_bytes_sent '
		'cache=$upstream_cache_status';
	access_log /dev/stderr story;
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	{{.Servers}}
}
`))

// nginxListens is in the log of nginx once it has bound its port.
var nginxListens = regexp.MustCompile(`using the "\w+" event method`)

// nginx runs nginx with the servers in a file, in which $ADDRESS and the variables of the
// script are expanded.
func nginx(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: nginx NAME FILE")
	}
	name, servers := args[0], ts.ReadFile(args[1])
	dir := ts.MkAbs(".nginx-" + name)
	ts.Check(os.MkdirAll(dir, 0o755))
	var s *server
	for range 3 { // another process may take the port meanwhile
		address := ts.Getenv(name)
		if address == "" {
			address = freeAddress(ts)
		}
		var conf strings.Builder
		expanded := os.Expand(servers, func(key string) string {
			switch value := ts.Getenv(key); {
			case key == "ADDRESS":
				return address
			case value != "":
				return value
			}
			return "$" + key // nginx's own
		})
		ts.Check(nginxConf.Execute(&conf, map[string]string{"Dir": dir, "Servers": expanded}))
		file := filepath.Join(dir, "nginx.conf")
		ts.Check(os.WriteFile(file, []byte(conf.String()), 0o600))
		s = launch(ts, name, []string{"nginx", "-e", "stderr", "-p", ts.MkAbs("."), "-c", file})
		if s.log.wait(nginxListens) != nil {
			ts.Setenv(name, address)
			return
		}
	}
	ts.Fatalf("%s does not listen:\n%s", name, s.log)
}

// freeAddress returns an address with a free port.
func freeAddress(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func httpServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: httpserver NAME DIR")
	}
	s := launch(ts, args[0], []string{
		"python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", ts.MkAbs(args[1]), "0",
	})
	found := s.log.wait(regexp.MustCompile(`Serving HTTP on (\S+) port (\d+)`))
	if found == nil {
		ts.Fatalf("%s does not listen:\n%s", args[0], s.log)
	}
	ts.Setenv(args[0], net.JoinHostPort(string(found[0][1]), string(found[0][2])))
}

// certify writes into DIR the certificate of a new authority, ca.pem, and a server's
// certificate and key that the authority has signed, cert.pem and key.pem.
func certify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: certify DIR [expired] HOST...")
	}
	dir := ts.MkAbs(args[0])
	end := time.Now().Add(time.Hour)
	if args[1] == "expired" {
		args, end = args[1:], time.Now().Add(-time.Minute)
	}
	ts.Check(os.MkdirAll(dir, 0o755))
	write := func(name, kind string, der []byte, err error) {
		ts.Check(err)
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		ts.Check(os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"},
		NotBefore: ca.NotBefore, NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range args[1:] {
		if ip := net.ParseIP(host); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, host)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	write("ca.pem", "CERTIFICATE", der, err)
	der, err = x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	write("cert.pem", "CERTIFICATE", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	write("key.pem", "PRIVATE KEY", der, err)
}

// forwarder is a forward proxy, as companies have towards the Internet. It alone knows
// the addresses of hosts.
type forwarder struct {
	hosts map[string]string // their addresses
	asked *journal          // a line for each request
	proxy *httputil.ReverseProxy
}

func forward(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: forward NAME [HOST=ADDRESS...]")
	}
	f := &forwarder{hosts: make(map[string]string), asked: newJournal()}
	for _, arg := range args[1:] {
		host, address, ok := strings.Cut(arg, "=")
		if !ok {
			ts.Fatalf("no address in %q", arg)
		}
		f.hosts[host] = address
	}
	f.proxy = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Host = f.addressOf(r.Out.URL.Host) },
		Transport: &http.Transport{},
		ErrorLog:  log.New(f.asked, "", 0),
	}
	worldOf(ts).proxies[args[0]] = &proxy{paths: f.asked} // for the verbs asked and requests
	ts.Setenv(args[0], listenAndServe(ts, f))
}

// addressOf returns the address of a host, which is given as in a URL.
func (f *forwarder) addressOf(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return cmp.Or(f.hosts[name], host)
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		fmt.Fprintf(f.asked, "CONNECT %s\n", r.Host)
		f.connect(w, r)
	case r.URL.IsAbs():
		fmt.Fprintf(f.asked, "%s %s\n", r.Method, r.URL)
		f.proxy.ServeHTTP(w, r)
	default:
		http.Error(w, "this is a proxy", http.StatusBadRequest)
	}
}

// connect passes bytes both ways until one side ends.
func (f *forwarder) connect(w http.ResponseWriter, r *http.Request) {
	to, err := net.Dial("tcp", f.addressOf(r.Host))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = to.Close() }()
	from, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = from.Close() }()
	if _, err := io.WriteString(from, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(to, buffered); done <- struct{}{} }()
	go func() { _, _ = io.Copy(from, to); done <- struct{}{} }()
	<-done
}
