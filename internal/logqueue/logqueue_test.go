package logqueue_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/logqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reader is the reader of a log, which takes nothing while it is stopped, and may fail.
type reader struct {
	stopped sync.Mutex // held while the reader stops

	mu   sync.Mutex // guards the fields below
	text strings.Builder
	err  error
}

func (r *reader) Write(p []byte) (int, error) {
	r.stopped.Lock()
	defer r.stopped.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	return r.text.Write(p)
}

func (r *reader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *reader) read() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func TestLinesAreWrittenInOrderBeforeTheEnd(t *testing.T) {
	var out reader
	q := logqueue.New(&out, func(int64, error) { t.Error("a report of nothing") })
	var want strings.Builder
	for i := range 1000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		n, err := io.WriteString(q, line)
		require.NoError(t, err)
		require.Equal(t, len(line), n)
	}
	require.NoError(t, q.Close())
	assert.Equal(t, want.String(), out.read())
}

func TestAReaderThatStopsHoldsUpNobody(t *testing.T) {
	var out reader
	line := strings.Repeat("x", 1<<10-1) + "\n"
	reports := make(chan int64, 1)
	before := logqueue.Dropped()
	q := logqueue.New(&out, func(lost int64, err error) {
		assert.NoError(t, err)
		reports <- lost
	})
	out.stopped.Lock()
	const written = 3 << 10
	for range written {
		_, err := io.WriteString(q, line)
		require.NoError(t, err)
	}
	assert.EqualValues(t, 2<<10, logqueue.Dropped()-before, "more than 1 MiB waits for no reader")
	out.stopped.Unlock()
	assert.EqualValues(t, 2<<10, <-reports, "the number of dropped lines is reported when writing goes on")
	_, _ = io.WriteString(q, "again\n")
	require.NoError(t, q.Close())
	assert.Equal(t, strings.Repeat(line, 1<<10)+"again\n", out.read())
}

func TestTheEndWaitsASecondForAReaderThatStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := io.Pipe()
		q := logqueue.New(out, func(int64, error) {})
		_, _ = io.WriteString(q, "nobody reads this\n")
		start := time.Now()
		require.NoError(t, q.Close())
		assert.Equal(t, time.Second, time.Since(start))
		require.NoError(t, in.Close())
	})
}

func TestALogThatFailsIsReportedOnce(t *testing.T) {
	var out reader
	full := errors.New("no space left")
	out.fail(full)
	type report struct {
		lost int64
		err  error
	}
	reports := make(chan report, 10)
	q := logqueue.New(&out, func(lost int64, err error) { reports <- report{lost, err} })
	before := logqueue.Dropped()
	_, _ = io.WriteString(q, "one\n")
	assert.Equal(t, report{0, full}, <-reports)
	_, _ = io.WriteString(q, "two\n")
	require.Eventually(t, func() bool { return logqueue.Dropped() == before+2 }, 5*time.Second, time.Millisecond)
	out.fail(nil)
	_, _ = io.WriteString(q, "three\n")
	assert.Equal(t, report{2, nil}, <-reports)
	require.NoError(t, q.Close())
	assert.Equal(t, "three\n", out.read())
}

func TestLinesGoThroughAnotherWriterFromNowOn(t *testing.T) {
	var first, second reader
	q := logqueue.New(&first, func(int64, error) {})
	q.Through(&second)
	_, _ = io.WriteString(q, "line\n")
	require.NoError(t, q.Close())
	assert.Empty(t, first.read())
	assert.Equal(t, "line\n", second.read())
}
