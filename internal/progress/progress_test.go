package progress

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/logqueue"
)

func TestModeTakesItsNamesAlone(t *testing.T) {
	for _, name := range []string{"auto", "bar", "plain", "json", "none"} {
		var m Mode
		require.NoError(t, m.Set(name))
		assert.Equal(t, name, m.String())
	}
	for _, name := range []string{"", "Bar", "bars", "bar "} {
		m := Plain
		require.EqualError(t, m.Set(name), "want auto, bar, plain, json or none")
		assert.Equal(t, Plain, m)
	}
}

func TestBarsAreLogLinesWhereThereIsNoTerminal(t *testing.T) {
	for _, mode := range []Mode{Auto, Bar, Plain} {
		t.Run(string(mode), func(t *testing.T) {
			file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
			require.NoError(t, err)
			defer file.Close()
			log := logqueue.New(file, func(int64, error) {})
			d := New(mode, file, log)
			assert.Nil(t, d.Update(), "the library logs")
			_, err = log.Write([]byte("line\n"))
			require.NoError(t, err)
			d.Done(shardcast.Result{Version: shardcast.Version{Name: "v1"}}, true)
			require.NoError(t, log.Close())
			text, err := os.ReadFile(file.Name())
			require.NoError(t, err)
			assert.Equal(t, "line\nv1: 0 B in 0.0 s, 0 B/s, 0 shards\n", string(text))
		})
	}
}

func TestASummaryIsWrittenOnRequestAlone(t *testing.T) {
	for _, mode := range []Mode{Bar, Plain, None} {
		var out strings.Builder
		newDisplay(mode, &out, &out, nil).Done(shardcast.Result{}, false)
		assert.Empty(t, out.String(), mode)
	}
	var out strings.Builder
	newDisplay(None, &out, &out, nil).Done(shardcast.Result{}, true)
	assert.Empty(t, out.String())
}

func TestNoneWritesNothing(t *testing.T) {
	var out strings.Builder
	d := newDisplay(None, &out, &out, nil)
	require.NotNil(t, d.Update(), "or the library would log")
	d.Update()(halfway())
	d.Failed(errors.New("over"))
	assert.Empty(t, out.String())
}

func TestADisplayShowsTheNextDownloadToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScreen(t, 60, 24)
		d := displayOn(s, s)
		for range 2 {
			d.Update()(halfway())
			drawn()
			assert.Contains(t, s.text(), "v7  50%")
			d.Done(shardcast.Result{}, false)
			assert.Empty(t, s.text())
		}
	})
	var out strings.Builder
	d := newDisplay(JSON, &out, &out, nil)
	d.Update()(halfway())
	d.Failed(errors.New("first"))
	d.Failed(errors.New("second"))
	assert.Contains(t, out.String(), `{"event":"failed","done":0,`, "of the second nothing is known")
}
