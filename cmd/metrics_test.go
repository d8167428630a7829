package cmd_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// metric waits until a metric has a value, or checks that there is none now.
func metric(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: [!] metric ADDRESS NAME VALUE")
	}
	find(ts, neg, "http://"+args[0]+"/metrics", `(?m)^(?:`+args[1]+`) (?:`+args[2]+`)$`)
}

// page waits until the page at a URL matches, or checks that it does not now.
func page(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] page URL REGEXP")
	}
	find(ts, neg, args[0], args[1])
}

// find waits until the text at a URL matches expr, or checks that it does not now.
func find(ts *testscript.TestScript, neg bool, target, expr string) {
	pattern := regexp.MustCompile(expr)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		text, err := text(ctx, target)
		if err == nil && pattern.MatchString(text) != neg {
			return
		}
		if neg {
			ts.Fatalf("%s matches %s, or cannot be had: %v", target, pattern, err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			ts.Fatalf("%s does not match %s: %v\n%s", target, pattern, err, text)
		}
	}
}

// text returns the body at a URL, whatever the status.
func text(ctx context.Context, target string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// prometheus runs Prometheus with a configuration, in which variables of the script are
// expanded.
func prometheus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: prometheus NAME FILE")
	}
	name, dir := args[0], ts.MkAbs(".prometheus-"+args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	config := filepath.Join(dir, "prometheus.yml")
	ts.Check(os.WriteFile(config, []byte(os.Expand(ts.ReadFile(args[1]), ts.Getenv)), 0o600))
	s := launch(ts, name, []string{
		"prometheus", "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", "127.0.0.1:0",
	})
	found := s.log.wait(regexp.MustCompile(`"?Listening on"? address=(\S+)`))
	if found == nil {
		ts.Fatalf("%s does not listen:\n%s", name, s.log)
	}
	ts.Setenv(name, string(found[0][1]))
}

// query waits until the JSON that Prometheus answers to an expression matches.
func query(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: query ADDRESS EXPRESSION REGEXP")
	}
	pattern := regexp.MustCompile(args[2])
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		text, err := ask(ctx, args[0], args[1])
		if err == nil && pattern.MatchString(text) {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			ts.Fatalf("the answer to %s does not match %s: %v\n%s", args[1], pattern, err, text)
		}
	}
}

// panels checks that Prometheus answers each panel of a dashboard with data, unless the
// expression allows for none.
func panels(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: panels ADDRESS FILE")
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &dashboard))
	asked := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			variables := strings.NewReplacer("$__rate_interval", "1m", "$job", "shardcast", "$instance", ".*")
			expr := variables.Replace(target.Expr)
			want := `"result":\[\{`
			if strings.HasSuffix(expr, "> 0") {
				want = `"status":"success"` // of failures there may be none
			}
			query(ts, false, []string{args[0], expr, want})
			asked++
		}
	}
	if asked == 0 {
		ts.Fatalf("%s asks for nothing", args[1])
	}
}

// ask returns the answer of the Prometheus at address to an expression.
func ask(ctx context.Context, address, expr string) (string, error) {
	return text(ctx, "http://"+address+"/api/v1/query?"+url.Values{"query": {expr}}.Encode())
}
