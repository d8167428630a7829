package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
)

// v7 is a version without unknown fields.
func v7() shardcast.Version {
	return shardcast.Version{
		Name: "v7", File: "weights & <biases>", Size: 1_100_000_000, ShardSize: 50_000_000, Shards: 22,
		Date: time.Date(2026, 11, 23, 0, 28, 30, 0, time.UTC), Digest: strings.Repeat("ab", 32),
	}
}

const v7JSON = `"version":"v7","name":"weights & <biases>","date":"2026-11-23T00:28:30Z","size":1100000000,` +
	`"shard_size":50000000,"shard_count":22,` +
	`"digest":"abababababababababababababababababababababababababababababababab"`

const halfwayJSON = `"version":"v7","size":1100000000,"done":550000000,"resumed":110000000,` +
	`"received":500000000,"wasted":1200000,` +
	`"seconds":4,"speed":129000000,"upstreams":[` +
	`{"upstream":"http://192.168.1.100:8000","state":"sending","transfers":6,"received":350000000,"speed":90000000},` +
	`{"upstream":"http://192.168.1.101:8000","state":"busy","transfers":0,"received":148800000,"speed":39000000},` +
	`{"upstream":"https://relay.example/cast","state":"refused","error":"shard 3: wrong digest",` +
	`"transfers":0,"received":1200000,"speed":0},` +
	`{"upstream":"http://192.168.1.103:8000","state":"failing","error":"connection refused",` +
	`"transfers":0,"received":0,"speed":0}]`

// written is the content of out by lines.
func written(out *strings.Builder) []string { return slices.Collect(strings.Lines(out.String())) }

func TestWriteVersionNamesFieldsAsTheManifestDoes(t *testing.T) {
	for name, tc := range map[string]struct {
		version shardcast.Version
		want    string
	}{
		"known": {v7(), `{` + v7JSON + "}\n"},
		"of an empty file": {
			shardcast.Version{Name: "v1", File: "f", ShardSize: 5, Digest: "00"},
			`{"version":"v1","name":"f","size":0,"shard_size":5,"shard_count":0,"digest":"00"}` + "\n",
		},
		"of a date that cannot be written": {
			shardcast.Version{
				Name: "v1", Size: -1, ShardSize: -1, Shards: -1, Digest: "00",
				Date: time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600)),
			},
			`{"version":"v1","digest":"00"}` + "\n",
		},
		"without a manifest": {
			shardcast.Version{Name: "v1", Size: -1, ShardSize: -1, Shards: -1, Digest: "00"},
			`{"version":"v1","digest":"00"}` + "\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			require.NoError(t, WriteVersion(&out, tc.version, shardcast.Release{}))
			assert.Equal(t, []string{tc.want}, written(&out))
		})
	}
}

func TestWriteResultAddsPathAndProgress(t *testing.T) {
	var out strings.Builder
	require.NoError(t, WriteResult(&out, shardcast.Result{Version: v7(), Path: "./w.bin", Progress: halfway()}))
	assert.Equal(
		t,
		[]string{`{` + v7JSON + `,"path":"./w.bin","progress":{"event":"done",` + halfwayJSON + "}}\n"},
		written(&out),
	)
}

func TestJSONEscapesUnprintableCharacters(t *testing.T) {
	hostile := "\x1b[2J \u009b2J \u202e \x7f \u2028 \U000e0001 日本\n"
	v := shardcast.Version{Name: "v1", File: hostile, Size: -1, ShardSize: -1, Shards: -1}
	var out strings.Builder
	require.NoError(t, WriteVersion(&out, v, shardcast.Release{}))
	assert.Equal(
		t,
		[]string{
			`{"version":"v1","name":"\u001b[2J \u009b2J \u202e \u007f \u2028 \udb40\udc01 日本\n",` +
				`"digest":""}` + "\n",
		},
		written(&out),
	)
	var back struct{ Name string }
	require.NoError(t, json.Unmarshal([]byte(out.String()), &back))
	assert.Equal(t, hostile, back.Name)
}

func TestJSONLinesComeOnceASecondAndOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		d := newDisplay(JSON, &out, &out, nil)
		for range 25 { // from 0 s to 2.4 s
			d.Update()(halfway())
			<-time.After(100 * time.Millisecond)
		}
		d.Done(shardcast.Result{Version: v7(), Progress: halfway()}, true)
		line := `{"event":"progress",` + halfwayJSON + "}\n"
		assert.Equal(t, []string{line, line, line, `{"event":"done",` + halfwayJSON + "}\n"}, written(&out))
	})
}

func TestJSONHasALineForEachPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		d := newDisplay(JSON, &out, &out, nil)
		for _, phase := range []string{"fetching", "fetching", "verifying", "syncing", "syncing"} {
			d.Update()(shardcast.Progress{Version: "v7", Phase: phase, Size: 10})
		}
		lines := written(&out)
		require.Len(t, lines, 3)
		for i, phase := range []string{"fetching", "verifying", "syncing"} {
			assert.Contains(t, lines[i], `{"event":"progress","version":"v7","phase":"`+phase+`","size":10,`)
		}
	})
}

func TestWriteBroadcastAddsLabelsAndSeconds(t *testing.T) {
	var out strings.Builder
	p := shardcast.Progress{Elapsed: 1234567 * time.Microsecond}
	r := shardcast.Result{Version: v7(), Path: "w.bin", Progress: p}
	r.Version.Labels = map[string]string{"step": "1200"}
	require.NoError(t, WriteBroadcast(&out, r, nil))
	require.NoError(t, WriteBroadcast(&out, shardcast.Result{Version: v7()}, nil))
	assert.Equal(t, []string{
		`{` + v7JSON + `,"labels":{"step":"1200"},"seconds":1.235}` + "\n", `{` + v7JSON + `,"seconds":0}` + "\n",
	}, written(&out))
}

func TestJSONEndsWithALineWithoutAnyUpdate(t *testing.T) {
	var out strings.Builder
	newDisplay(
		JSON,
		&out,
		&out,
		nil,
	).Done(
		shardcast.Result{Progress: shardcast.Progress{Version: "v1", Size: 3, Done: 3}},
		true,
	)
	newDisplay(JSON, &out, &out, nil).Failed(errors.New("no luck\x1b"))
	assert.Equal(t, []string{
		`{"event":"done","version":"v1","size":3,"done":3,"resumed":0,"received":0,"wasted":0,` +
			`"seconds":0,"speed":0,"upstreams":[]}` + "\n",
		`{"event":"failed","done":0,"resumed":0,"received":0,"wasted":0,` +
			`"seconds":0,"speed":0,"upstreams":[],"error":"no luck\u001b"}` + "\n",
	}, written(&out))
}

func TestJSONHasTheProgressOfAFailedDownload(t *testing.T) {
	var out strings.Builder
	d := newDisplay(JSON, &out, &out, nil)
	d.Update()(shardcast.Progress{Version: "v6", Size: -1})
	d.Update()(halfway()) // within a second
	out.Reset()
	d.Failed(errors.Join(errors.New("one"), errors.New("two")))
	assert.Equal(t, []string{`{"event":"failed",` + halfwayJSON + `,"error":"one\ntwo"}` + "\n"}, written(&out))
}

func TestJSONIsWrittenWhateverTheSpeed(t *testing.T) {
	for _, speed := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -5} {
		var out bytes.Buffer
		newDisplay(
			JSON,
			&out,
			&out,
			nil,
		).Update()(
			shardcast.Progress{Speed: speed, Upstreams: []shardcast.Upstream{{Speed: speed}}},
		)
		assert.True(t, json.Valid(out.Bytes()), out.String())
	}
}

func TestJSONTellsPeersFromServers(t *testing.T) {
	var out strings.Builder
	r := shardcast.Result{Progress: shardcast.Progress{
		Received:  4,
		Peers:     3,
		Given:     5,
		Upstreams: []shardcast.Upstream{{URL: "http://a:8000"}, {URL: "http://b:8001", Peer: true}},
	}}
	require.NoError(t, WriteResult(&out, r))
	assert.Contains(t, out.String(), `"received":4,"peers":3,"wasted":0,"given":5,`)
	assert.Contains(t, out.String(), `{"upstream":"http://a:8000","state":"",`)
	assert.Contains(t, out.String(), `{"upstream":"http://b:8001","peer":true,"state":"",`)
}

// Whatever a version, a server or an error says, its JSON is one line that a terminal can
// print and that has the same text.
func FuzzJSON(f *testing.F) {
	f.Add("weights.bin", int64(1_770_000_000), 0, int64(5), 0.5)
	f.Add("</script>\x1b[2J\x00\u2028\u202e\xff", int64(253_402_300_799), -3600, int64(-1), math.NaN())
	f.Add(`"\u0000\`+"\n{}\n", int64(math.MaxInt64), 86_400, int64(math.MaxInt64), math.Inf(1))
	f.Add("\u0085\U000e0001\U0010ffff", int64(math.MinInt64), -1, int64(math.MinInt64), -1.0)
	f.Add("", int64(-62_135_596_801), 3_600_000, int64(0), 1e300)
	f.Fuzz(func(t *testing.T, text string, seconds int64, zone int, size int64, speed float64) {
		v := shardcast.Version{
			Name: "v7", File: text, Date: time.Unix(seconds, 0).In(time.FixedZone("", zone)),
			Size: size, ShardSize: size, Shards: int(size), Digest: text,
		}
		p := shardcast.Progress{
			Version: text, Size: size, Done: size, Elapsed: time.Duration(size), Speed: speed,
			Upstreams: []shardcast.Upstream{{URL: text, State: text, Err: text, Received: size, Speed: speed}},
		}
		var version, result, failed bytes.Buffer
		require.NoError(t, WriteVersion(&version, v, shardcast.Release{}), "one version hides all others")
		require.NoError(t, WriteResult(&result, shardcast.Result{Version: v, Path: text, Progress: p}))
		(&lines{out: &failed}).end("failed", p, errors.New(text))

		for _, line := range []string{version.String(), result.String(), failed.String()} {
			body, ended := strings.CutSuffix(line, "\n")
			require.True(t, ended, "a line ends")
			require.False(t, strings.ContainsFunc(body, func(r rune) bool { return !unicode.IsPrint(r) }), line)
			var read struct {
				Version, Name, Error string
				Digest               *string
			}
			require.NoError(t, json.Unmarshal([]byte(line), &read))
			if read.Digest == nil {
				require.Equal(t, string([]rune(text)), read.Error)
				continue
			}
			require.Equal(t, "v7", read.Version)
			require.Equal(t, string([]rune(text)), read.Name)
		}
	})
}

func TestWritePassedOverHasOneWordForTheReason(t *testing.T) {
	for word, err := range map[string]error{
		"newer": shardcast.ErrNewer, "retired": shardcast.ErrNoVersion, "integrity": shardcast.ErrIntegrity,
		"label": shardcast.ErrLabel, "too-large": shardcast.ErrTooLarge, "not-trusted": shardcast.ErrNotTrusted,
		"failed": io.ErrUnexpectedEOF,
	} {
		var out strings.Builder
		require.NoError(t, WritePassedOver(&out, v7(), fmt.Errorf("fetch v7: %w", err)))
		assert.JSONEq(t, fmt.Sprintf(`{"event":"passed-over","version":"v7","digest":%q,"why":%q,"error":%q}`,
			v7().Digest, word, "fetch v7: "+err.Error()), out.String())
	}
}
