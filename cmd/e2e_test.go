// Package cmd_test runs the stories in testdata/script with the three real
// commands: real processes, real sockets, real files. Beside the commands of testscript
// itself, a script has these:
//
//	mkfile FILE SIZE [SEED]     make a file of random bytes, the same for the same seed
//	tensors FILE PERCENT NAME:SIZE...
//	                            make a safetensors file of bf16 weights, those of a name always the same but for
//	                            PERCENT of them, which a step of training has changed
//	start NAME COMMAND ARG...   run a server on a free loopback port, wait until it listens,
//	                            and set $NAME to its address and $NAME_port; a later start of NAME uses the same port
//	run NAME COMMAND ARG...     run a command that is no server in the background; its log is its output,
//	                            and its process $NAME_pid
//	ended NAME [CODE]           wait for its end, with exit code 0 or CODE
//	halt NAME [SIGNAL [CODE]]   send TERM or SIGNAL and wait for the end; after TERM and INT
//	                            the exit code must be 0 or CODE
//	signal NAME SIGNAL          send SIGNAL
//	await NAME REGEXP [COUNT]   wait until the log of NAME matches, COUNT times; with ! it must not
//	                            match so far
//	code N COMMAND ARG...       run a command, whose exit code must be N
//	proxy NAME UPSTREAM RULE... run an HTTP proxy, see faults_test.go, and set $NAME
//	rules NAME RULE...          replace its rules
//	asked NAME REGEXP [COUNT]   wait until it has a request for a path that matches, COUNT times
//	requests NAME REGEXP COUNT  it has COUNT requests for such a path; ..COUNT is at most
//	static NAME DIR             serve DIR as plain files and set $NAME
//	tls NAME DIR                the same over HTTPS, by a certificate of no known authority
//	answer METHOD URL [FIELD:VALUE...] REGEXP
//	                            ask for the http:// URL; the answer, its header and then the
//	                            beginning of its body, must match
//	request NAME METHOD URL [FIELD:VALUE...]
//	                            the same, waiting until the request is sent, and not for the answer
//	answered NAME REGEXP        wait for the answer; it must match
//	crowd [from=HOST] ADDRESS COUNT PATH [FIELD:VALUE]
//	                            open COUNT idle connections, from another host of loopback, and as many that
//	                            ask for PATH and read one byte of it, until the script ends
//	metric ADDRESS NAME VALUE   wait until ADDRESS has a metric whose name with its labels, and whose
//	                            value, match; with !, there is none now
//	page URL REGEXP             wait until the body at the http:// URL matches; with !, it does not now
//	exists-soon FILE [BYTES]    wait until FILE exists, and is BYTES long or longer; with !, until it is gone
//	tally FILE [PERCENT]        the numbers in FILE, the output of a download with --json, agree with one
//	                            another, and the wasted bytes are at most PERCENT (0) of the size
//	soak DIR DATA VERSIONS KILLS [NAME...]
//	                            VERSIONS small files appear in DIR, w1.bin and so on, each when DATA lists the one
//	                            before; KILLS times one of NAMEs is killed meanwhile, as $SEED has it, and run
//	                            again; $last is the number of the last file
//	settled DIR                 nothing unfinished is left in DIR or below
//
// and for foreign programs ($DEPLOY is our directory deploy, $FIXTURE a data directory that the
// Python package has written; see others_test.go and python_test.go):
//
//	nginx NAME FILE             run nginx with the servers in FILE, one of which listens at $ADDRESS,
//	                            and set $NAME to that; its log has "METHOD PATH PROTOCOL STATUS BYTES
//	                            cache=STATUS" for each answer
//	prometheus NAME FILE        run prometheus with the configuration FILE and set $NAME
//	query NAME EXPR REGEXP      wait until the answer of the Prometheus at NAME to EXPR matches, in JSON
//	panels NAME FILE            it has an answer to each panel of the dashboard FILE
//	httpserver NAME DIR         serve DIR with python3 -m http.server
//	certify DIR [expired] HOST...
//	                            make DIR/cert.pem and key.pem for a server or client, and ca.pem, their authority
//	forward NAME [HOST=ADDRESS...]
//	                            run a forward proxy that knows the addresses of hosts; asked and requests
//	                            match "METHOD URL" and "CONNECT HOST:PORT"
//	pydata DIR DIALECT SHARDSIZE FILE...
//	                            make a data directory of the Python package, with FILEs as v1, v2 ...;
//	                            DIALECT is 0.1, 0.1c (with the number of shards) or 0.3
//	pyorigin NAME DIR           serve DIR as its origin does; the log has a line "METHOD PATH STATUS" for
//	                            each request
//	pymiddle NAME DIALECT UPSTREAM
//	                            follow UPSTREAM as its middle does, into the directory NAME; also
//	                            logs "fetched v1"
//	pyclient DIALECT SERVER,... VERSION OUTPUT
//	                            download as its client does; with ! it must fail, with the reason on stderr
package cmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/rogpeppe/go-internal/testscript"
)

// patience is how long a script waits for an event: far longer than one takes on a busy
// machine.
const patience = time.Minute

// buildFlags are the flags that the tests were built with.
var buildFlags = []string{"build"}

// binaries is where the commands are.
var binaries string

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given && !slices.Contains(buildFlags, "-race") {
		// Stories wait for their processes most of the time, but with the race detector.
		if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
			panic(err)
		}
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if binaries = os.Getenv(binariesVariable); binaries != "" {
		return m.Run()
	}
	if binaries, err = os.MkdirTemp("", "shardcast-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(binaries) }()
	// With the race detector a process would otherwise take a second to end.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	build := exec.Command("go", append(buildFlags, "-o", binaries, "./...")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the commands:", err)
		return 1
	}
	return m.Run()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         os.Getenv(workVariable),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", binaries+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Values[worldKey{}] = &world{
				servers: make(map[string]*server), proxies: make(map[string]*proxy),
				answers: make(map[string]<-chan string),
			}
			setupSoak(env)
			return setupOthers(env)
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "mounts": // this user may mount a file system of its own
				return exec.Command("unshare", "-rm", "true").Run() == nil, nil
			case "root":
				return runtime.GOOS == "linux" && os.Geteuid() == 0, nil
			case "flags": // this user may set those of chattr, and the file system has them
				try := exec.Command("sh", "-c", "f=$(mktemp) && chattr +i $f && chattr -i $f && rm $f")
				return try.Run() == nil, nil
			case "soak": // make soak runs it
				return os.Getenv("SOAK_VERSIONS") != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mkfile":      mkfile,
			"tensors":     tensors,
			"start":       start,
			"run":         runClient,
			"ended":       ended,
			"halt":        halt,
			"signal":      signal,
			"await":       await,
			"code":        code,
			"proxy":       startProxy,
			"rules":       setRules,
			"asked":       asked,
			"requests":    requests,
			"static":      static,
			"tls":         secure,
			"answer":      answer,
			"request":     request,
			"answered":    answered,
			"crowd":       crowd,
			"metric":      metric,
			"page":        page,
			"prometheus":  prometheus,
			"query":       query,
			"panels":      panels,
			"exists-soon": existsSoon,
			"same":        same,
			"keypair":     keypair,
			"forge":       forge,
			"spoil":       spoil,
			"soak":        soak,
			"settled":     settled,
			"tally":       tally,
			"nginx":       nginx,
			"httpserver":  httpServer,
			"certify":     certify,
			"forward":     forward,
			"pydata":      pyData,
			"pyorigin":    pyOrigin,
			"pymiddle":    startPyMiddle,
			"pyclient":    pyClient,
		},
	})
}

// world holds the running processes and proxies of one script.
type world struct {
	servers map[string]*server
	proxies map[string]*proxy
	answers map[string]<-chan string // to requests
	forged  uint64                   // the sequence number of the last release
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world {
	w, _ := ts.Value(worldKey{}).(*world)
	return w
}

// server is a command in the background.
type server struct {
	cmd   *exec.Cmd
	log   *journal
	ended chan error
	again func() // runs it again in the same way
}

func mkfile(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: mkfile FILE SIZE [SEED]")
	}
	size, err := humanize.ParseBytes(args[1])
	ts.Check(err)
	var seed [32]byte
	copy(seed[:], strings.Join(args[2:], " "))
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = io.CopyN(f, rand.NewChaCha8(seed), int64(size))
	ts.Check(errors.Join(err, f.Close()))
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME COMMAND ARG...")
	}
	name, argv := args[0], args[1:]
	port := "0"
	if address := ts.Getenv(name); address != "" {
		_, port, _ = net.SplitHostPort(address)
	}
	s := launch(ts, name, append(slices.Clip(argv), "--host", "127.0.0.1", "--port", port))
	s.again = func() { start(ts, false, args) }
	found := s.log.wait(regexp.MustCompile(`msg=listening addr=(\S+)`))
	if found == nil {
		ts.Fatalf("%s does not listen:\n%s", name, s.log)
	}
	address := string(found[0][1])
	_, port, _ = net.SplitHostPort(address)
	ts.Setenv(name, address)
	ts.Setenv(name+"_port", port)
	operators := regexp.MustCompile(`msg="listening for operators" addr=(\S+)`)
	if second := operators.FindStringSubmatch(s.log.String()); second != nil {
		ts.Setenv(name+"_admin", second[1])
	}
}

func runClient(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: run NAME COMMAND ARG...")
	}
	s := launch(ts, args[0], args[1:])
	s.again = func() { runClient(ts, false, args) }
}

// launch runs argv in the background as name, until the script ends.
func launch(ts *testscript.TestScript, name string, argv []string) *server {
	cmd := exec.Command(argv[0], argv[1:]...)
	if full, err := exec.LookPath(filepath.Join(binaries, argv[0])); err == nil {
		cmd.Path, cmd.Err = full, nil
	}
	s := &server{cmd: cmd, log: newJournal(), ended: make(chan error, 1)}
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "IP_ADDR_LIST="+ts.Getenv("IP_ADDR_LIST"), "PATH="+ts.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = s.log, s.log
	ts.Check(cmd.Start())
	ts.Setenv(name+"_pid", strconv.Itoa(cmd.Process.Pid))
	go func() {
		s.ended <- cmd.Wait()
		s.log.end()
	}()
	worldOf(ts).servers[name] = s
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		s.log.wait(nil) // until it has ended
		ts.Logf("log of %s:\n%s", name, s.log)
	})
	return s
}

func serverOf(ts *testscript.TestScript, name string) *server {
	s, ok := worldOf(ts).servers[name]
	if !ok {
		ts.Fatalf("there is no server %s", name)
	}
	return s
}

// countOf returns the number in args, or 1 if they are empty.
func countOf(ts *testscript.TestScript, args []string) int {
	if len(args) == 0 {
		return 1
	}
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	return count
}

var signals = map[string]syscall.Signal{
	"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP,
}

func signal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME TERM|INT|KILL|HUP")
	}
	ts.Check(serverOf(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

func halt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 3 {
		ts.Fatalf("usage: halt NAME [TERM|INT|KILL [CODE]]")
	}
	name, sent, want := args[0], "TERM", "0"
	if len(args) > 1 {
		sent = args[1]
	}
	if len(args) > 2 {
		want = args[2]
	}
	if sent == "KILL" {
		want = "137"
	}
	signal(ts, false, []string{name, sent})
	ended(ts, false, []string{name, want})
}

func ended(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: ended NAME [CODE]")
	}
	name, want := args[0], "0"
	if len(args) > 1 {
		want = args[1]
	}
	s := serverOf(ts, name)
	select {
	case err := <-s.ended:
		s.ended <- err
		if got := strconv.Itoa(exitCode(s.cmd.ProcessState)); got != want {
			ts.Fatalf("%s ended with exit code %s instead of %s:\n%s", name, got, want, s.log)
		}
	case <-time.After(patience):
		ts.Fatalf("%s does not end:\n%s", name, s.log)
	}
}

// exitCode returns the exit code that a shell reports.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 || neg && len(args) > 2 {
		ts.Fatalf("usage: [!] await NAME REGEXP [COUNT]")
	}
	count := countOf(ts, args[2:])
	s := serverOf(ts, args[0])
	if neg {
		if regexp.MustCompile(args[1]).MatchString(s.log.String()) {
			ts.Fatalf("%s has logged %q:\n%s", args[0], args[1], s.log)
		}
		return
	}
	if found := s.log.waitFor(regexp.MustCompile(args[1]), count); len(found) < count {
		ts.Fatalf("%s has not logged %q %d times:\n%s", args[0], args[1], count, s.log)
	}
}

func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND ARG...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exitCode(exit.ProcessState)
	}
	if want := args[0]; strconv.Itoa(got) != want {
		ts.Fatalf("exit code %d instead of %s", got, want)
	}
}

func existsSoon(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: [!] exists-soon FILE [BYTES]")
	}
	bytes := 0
	if len(args) > 1 {
		bytes = countOf(ts, args[1:])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		there := false
		if found, err := filepath.Glob(ts.MkAbs(args[0])); err == nil && found != nil {
			info, err := os.Stat(found[0])
			there = err == nil && info.Size() >= int64(bytes)
		}
		if there != neg {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("%s does not appear, or go", args[0])
		}
	}
}

// settled fails for partial files, drafts and retired versions.
func settled(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: settled DIR")
	}
	var left []string
	err := filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		parent := filepath.Base(filepath.Dir(path))
		unfinished := !d.IsDir() && (strings.HasSuffix(path, "part") || strings.HasSuffix(path, ".tmp"))
		if unfinished || parent == "drafts" || parent == "retired" {
			left = append(left, path)
		}
		return err
	})
	ts.Check(err)
	if left != nil {
		ts.Fatalf("left behind: %s", strings.Join(left, " "))
	}
}

// tally checks the account of a download.
func tally(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: tally FILE [PERCENT]")
	}
	percent := int64(0)
	if len(args) > 1 {
		percent = int64(countOf(ts, args[1:]))
	}
	var result struct {
		Size     int64
		Progress struct {
			Size, Done, Resumed, Received, Wasted int64
			Upstreams                             []struct{ Received int64 }
		}
	}
	text := ts.ReadFile(args[0])
	ts.Check(json.Unmarshal([]byte(text), &result))
	p := result.Progress
	var sum int64
	for _, u := range p.Upstreams {
		sum += u.Received
	}
	if p.Size != result.Size || p.Done != p.Size || sum != p.Received || p.Resumed+p.Received-p.Wasted != p.Size {
		ts.Fatalf("these numbers do not agree: %s", text)
	}
	if p.Wasted*100 > percent*p.Size {
		ts.Fatalf("more than %d%% of the bytes were wasted: %s", percent, text)
	}
}

// journal holds the output of a process so far.
type journal struct {
	mu      sync.Mutex // guards the fields below
	text    bytes.Buffer
	ended   bool
	changed chan struct{} // closed and replaced at every change
}

func newJournal() *journal {
	return &journal{changed: make(chan struct{})}
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.announce()
	return j.text.Write(p)
}

func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended = true
	j.announce()
}

func (j *journal) announce() {
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// wait waits until the text matches, or for the end if pattern is nil.
func (j *journal) wait(pattern *regexp.Regexp) [][][]byte { return j.waitFor(pattern, 1) }

// waitFor waits until the text matches count times, or the end has come.
func (j *journal) waitFor(pattern *regexp.Regexp, count int) [][][]byte {
	timeout := time.After(patience)
	for {
		j.mu.Lock()
		var found [][][]byte
		if pattern != nil {
			found = pattern.FindAllSubmatch(bytes.Clone(j.text.Bytes()), -1)
		}
		ended, changed := j.ended, j.changed
		j.mu.Unlock()
		if ended || (pattern != nil && len(found) >= count) {
			return found
		}
		select {
		case <-changed:
		case <-timeout:
			return found
		}
	}
}
