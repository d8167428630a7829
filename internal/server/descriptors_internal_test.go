package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/conns"
)

func TestAnAnswerWithoutADescriptorIsAWarningOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(strings.Builder)
		a := answering{logger: slog.New(slog.NewTextHandler(log, nil)), exhausted: new(conns.Occasional)}
		a.endpoints[kindShard] = func(http.ResponseWriter, *http.Request, target) error {
			return fmt.Errorf("open: %w", syscall.EMFILE)
		}
		h := routing{next: a}
		ask := func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/shard_001.bin", http.NoBody))
			assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		}
		ask()
		ask()
		assert.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
		assert.Contains(t, log.String(), "LimitNOFILE")
		time.Sleep(time.Minute)
		ask()
		assert.Equal(t, 2, strings.Count(log.String(), "level=WARN"))
	})
}
