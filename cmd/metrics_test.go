package cmd_test

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// metric waits until one is what it is to be, or looks that there is none now.
func metric(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: [!] metric ADDRESS NAME VALUE")
	}
	pattern := regexp.MustCompile(`(?m)^(?:` + args[1] + `) (?:` + args[2] + `)$`)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		text, err := scrape(ctx, args[0])
		if err == nil && pattern.MatchString(text) != neg {
			return
		}
		if neg {
			ts.Fatalf("there is a %s, or none can be had: %v", pattern, err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			ts.Fatalf("there is no %s: %v\n%s", pattern, err, text)
		}
	}
}

// scrape returns all metrics of the server at address.
func scrape(ctx context.Context, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}
