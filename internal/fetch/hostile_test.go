package fetch_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
)

// answer answers with a status, a Content-Range if that is not empty, and a body.
func answer(w http.ResponseWriter, status int, contentRange string, body []byte) {
	if contentRange != "" {
		w.Header().Set("Content-Range", contentRange)
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// Answers of a bad upstream to a request for a range: the file is right in the end, and only
// an upstream whose answer cannot be right is named.
func TestFetchFromServersThatAreBadAtRanges(t *testing.T) {
	const size, there = megabyte, 300_000
	const rest = size - there
	version := publish(t, 2*size, size)
	data := version.data[:size]
	span := func(from, to, total int) string { return fmt.Sprintf("bytes %d-%d/%d", from, to-1, total) }
	for name, tc := range map[string]struct {
		evil   func(w http.ResponseWriter)
		blamed bool
		wasted int64
		used   bool // the good one is not asked for the shard
	}{
		"another begin": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, span(0, rest, size), data[:rest])
		}, false, there, false},
		"a begin a byte before": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, span(there-1, size, size), data[there-1:])
		}, false, 1, true},
		"a begin a byte after": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, span(there+1, size, size), data[there+1:])
		}, false, 0, false},
		"another size": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, span(there, size, size+1), data[there:])
		}, false, 0, false},
		"an unknown size": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, fmt.Sprintf("bytes %d-%d/*", there, size-1), data[there:])
		}, false, 0, true},
		"no Content-Range": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, "", data[there:])
		}, false, 0, false},
		"an unreadable Content-Range": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, "bytes all/of them", data[there:])
		}, false, 0, false},
		"several parts": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			answer(w, http.StatusPartialContent, "", []byte("--x\r\n\r\n"))
		}, false, 0, false},
		"all of it": {func(w http.ResponseWriter) {
			answer(w, http.StatusOK, "", data)
		}, false, there, true},
		"all of it, with no length": {func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(data)
		}, false, there, true},
		"all of another file": {func(w http.ResponseWriter) {
			answer(w, http.StatusOK, "", data[:1000])
		}, true, 0, false},
		"not satisfiable": {func(w http.ResponseWriter) {
			answer(w, http.StatusRequestedRangeNotSatisfiable, fmt.Sprintf("bytes */%d", there), nil)
		}, true, 0, false},
		"more than the range": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, span(there, size, size),
				append(bytes.Clone(data[there:]), data[:5000]...))
		}, false, 0, false},
		"less than the range": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, span(there, size-5000, size), data[there:size-5000])
		}, false, 0, false},
		"nothing": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, span(there, size, size), nil)
		}, false, 0, false},
		"other bytes": {func(w http.ResponseWriter) {
			answer(w, http.StatusPartialContent, span(there, size, size), flipped(bytes.Clone(data[there:])))
		}, true, rest + size, false}, // once these, and then all once more, from the beginning
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, version, func(t *testing.T, n *network) {
				evil := n.host("evil", 4*megabyte)
				evil.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					switch {
					case r.URL.Path != "/v1/shard_001.bin":
						next.ServeHTTP(w, r)
					case r.Header.Get("Range") == "" && tc.blamed:
						tampered(flipped)(w, r, next)
					default:
						tc.evil(w)
					}
				})
				good := n.host("good", 4*megabyte)
				var got memory
				got.keep(1, bytes.Clone(data[:there]))
				end, err := n.tryFetch(t, fetch.Options{Concurrency: 1}, 0, &got, evil, good)
				require.NoError(t, err)
				assert.Equal(t, tc.wasted, end.Wasted)
				blamed := end.log.with("level=WARN", "not asked again")
				if tc.blamed {
					require.Len(t, blamed, 1)
					assert.Contains(t, blamed[0], "upstream=http://evil:80")
					assert.Len(t, evil.asked(), 1+map[bool]int{true: 1}[name == "other bytes"])
				} else {
					assert.Empty(t, blamed)
				}
				assert.Equal(t, fmt.Sprintf("bytes=%d-%d", there, size-1), evil.asked()[0].asked)
				for _, r := range good.asked() {
					assert.False(t, tc.used && r.path == "/v1/shard_001.bin", "the good one was asked too")
				}
				assert.LessOrEqual(t, end.took, 10*time.Second)
			})
		})
	}
}

func TestAPartialAnswerToARequestForAWholeShardIsNotUsed(t *testing.T) {
	simulate(t, publish(t, megabyte, megabyte), func(t *testing.T, n *network) {
		evil := n.host("evil", 4*megabyte).spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			r.Header.Set("Range", "bytes=0-")
			next.ServeHTTP(w, r)
		})
		good := n.host("good", 4*megabyte)
		end, err := n.tryFetch(t, fetch.Options{Concurrency: 1}, 0, new(memory), evil, good)
		require.NoError(t, err)
		assert.Zero(t, end.Wasted)
		assert.Empty(t, end.log.with("level=WARN"))
		assert.Len(t, good.asked(), 1)
	})
}

// A server without ranges that never gets to the end is not asked for ever.
func TestAServerThatSendsTheSameBeginAgainAndAgainIsGivenUp(t *testing.T) {
	simulate(t, publish(t, megabyte, megabyte), func(t *testing.T, n *network) {
		cuts := faultAt(100<<10, cut)
		evil := n.host("evil", 4*megabyte).spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			r.Header.Del("Range")
			if time.Since(n.start) < 5*time.Minute {
				cuts(w, r, next)
				return
			}
			next.ServeHTTP(w, r) // for this to end
		})
		end, err := n.tryFetch(t, fetch.Options{}, 0, new(memory), evil)
		t.Logf("took %v, %d requests, %d bytes received of %d", end.took, len(evil.asked()), end.Received, end.Size)
		require.Error(t, err)
		assert.LessOrEqual(t, len(evil.asked()), 10)
	})
}

func TestBlameForAShardOfSeveralUpstreams(t *testing.T) {
	const half = megabyte / 2
	// lies sends wrong bytes, and breaks off in the middle.
	lies := func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		faultAt(half, cut)(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			wrong := bytes.Clone(bytes.Repeat([]byte("lies"), megabyte/4))
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(wrong))
		}))
	}
	cuts := faultAt(half, cut)
	for name, tc := range map[string]struct {
		first, second, third spoiler
		guilty               []string
	}{
		"the first sends wrong bytes, once": {first(lies), nil, nil, []string{"one"}},
		"the first always sends wrong bytes": {
			lies, nil, nil,
			[]string{"one"},
		},
		"the second does": {first(cuts), tampered206, nil, []string{"two"}},
		"both do":         {lies, tampered206, nil, []string{"one", "two"}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, publish(t, 3*megabyte, megabyte), func(t *testing.T, n *network) {
				var hosts []*host
				for i, s := range []spoiler{tc.first, tc.second, tc.third} {
					hosts = append(hosts, n.host([]string{"one", "two", "three"}[i], 4*megabyte))
					if s != nil {
						hosts[i].spoilWith(only("/v1/shard_001.bin", s))
					}
				}
				end, err := n.tryFetch(t, fetch.Options{Concurrency: 1}, 0, new(memory), hosts...)
				require.NoError(t, err)
				for _, h := range hosts {
					want := 0
					for _, guilty := range tc.guilty {
						if guilty == h.name {
							want = 1
						}
					}
					assert.Len(t, end.log.with("not asked again", "upstream=http://"+h.name+":80"), want, h.name)
				}
				assert.NotEmpty(t, end.log.with("shard is fetched again", "shard=1 "))
			})
		})
	}
}

// tampered206 sends a wrong last byte of the range.
func tampered206(w http.ResponseWriter, r *http.Request, next http.Handler) {
	next.ServeHTTP(&flipper{w}, r)
}

type flipper struct{ http.ResponseWriter }

func (f *flipper) Write(data []byte) (int, error) {
	return f.ResponseWriter.Write(flipped(bytes.Clone(data)))
}

// Two that break off before a shard's end would begin it anew for ever, each in
// place of the other.
func TestAShardIsBroughtAloneByUpstreamsThatBreakOff(t *testing.T) {
	simulate(t, publish(t, 2*megabyte, megabyte), func(t *testing.T, n *network) {
		var there memory
		there.keep(1, flipped(bytes.Clone(n.version.data[:megabyte/2])))
		one := n.host("one", 4*megabyte).spoilWith(faultAt(300<<10, cut))
		two := n.host("two", 4*megabyte).spoilWith(faultAt(300<<10, cut))
		end, err := n.tryFetch(t, fetch.Options{}, 1, &there, one, two)
		require.NoError(t, err)
		assert.LessOrEqual(t, len(one.asked())+len(two.asked()), 20)
		assert.NotEmpty(t, end.log.with("shard is fetched again", "shard=1 "))
		assert.Empty(t, end.log.with("not asked again"))
	})
}

// Where a shard is fetched from one server alone, bytes that another one has sent before are
// no progress.
func TestAShardThatNoServerAloneSendsToItsEndIsGivenUp(t *testing.T) {
	const end = 300 << 10
	simulate(t, publish(t, megabyte, megabyte), func(t *testing.T, n *network) {
		var there memory
		there.keep(1, flipped(bytes.Clone(n.version.data[:megabyte/2]))) // so that it is fetched from one alone
		cuts := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			switch asked := r.Header.Get("Range"); {
			case time.Since(n.start) > 2*time.Minute: // for this to end
				next.ServeHTTP(w, r)
			case asked == "":
				faultAt(end, cut)(w, r, next)
			case asked == fmt.Sprintf("bytes=%d-%d", end, megabyte-1):
				cut(w, r)
			default:
				next.ServeHTTP(w, r)
			}
		}
		one, two := n.host("one", 4*megabyte).spoilWith(cuts), n.host("two", 4*megabyte).spoilWith(cuts)
		got, err := n.tryFetch(t, fetch.Options{}, 1, &there, one, two)
		t.Logf("took %v, %d and %d requests, %d bytes received", got.took, len(one.asked()), len(two.asked()),
			got.Received)
		require.ErrorContains(t, err, "shard 1 broke off")
		assert.NotEmpty(t, got.log.with("shard is fetched again", "shard=1 "))
		assert.LessOrEqual(t, got.took, time.Minute)
		assert.LessOrEqual(t, len(one.asked())+len(two.asked()), 40)
	})
}

// While shard 1 is slow to arrive, the turn of no other comes. The first shard from each
// server is verified at once all the same, so a server that sends only bad data costs one
// shard.
func TestAServerThatSendsOnlyBadDataCostsOneShard(t *testing.T) {
	const size = 100_000
	version := publish(t, 12*size, size)
	found := false
	for seed := range uint64(10) {
		simulate(t, version, func(t *testing.T, n *network) {
			slow := only("shard_001", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				time.Sleep(5 * time.Second)
				next.ServeHTTP(w, r)
			})
			bad := 0 // one request at a time, as the other worker waits for shard 1
			evil := n.host("evil", 4*megabyte)
			evil.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.URL.Path == "/v1/shard_001.bin" {
					slow(w, r, next)
					return
				}
				bad++
				tampered(flipped)(w, r, next)
			})
			good := n.host("good", 4*megabyte).spoilWith(slow)
			end, err := n.tryFetch(t, fetch.Options{Concurrency: 2}, seed+1, new(memory), evil, good)
			require.NoError(t, err)
			assert.LessOrEqual(t, bad, 1)
			assert.EqualValues(t, bad*size, end.Wasted)
			found = found || bad == 1
		})
	}
	assert.True(t, found, "the server with bad data was never asked")
}

// chunked sends data without its length.
func chunked(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(data)
	}
}

// A chunked answer has no length, so only its end shows that there is more than the shard.
func TestAServerThatSendsMoreThanTheShardIsNamed(t *testing.T) {
	const size = 100_000
	version := publish(t, 3*size, size)
	for name, tc := range map[string]struct {
		more    []byte
		present int // bytes of the shard that were there
		named   bool
	}{
		"a byte more":              {[]byte("x"), 0, true},
		"much more":                {content(2, 4*size), 0, true},
		"no more":                  {nil, 0, false},
		"a byte more, of a resume": {[]byte("x"), 1000, true},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, version, func(t *testing.T, n *network) {
				sent := append(bytes.Clone(version.data[:size]), tc.more...)
				evil := n.host("evil", 4*megabyte).spoilWith(only("shard_001", by(chunked(sent))))
				good := n.host("good", 4*megabyte)
				var there memory
				if tc.present > 0 {
					there.keep(1, bytes.Clone(version.data[:tc.present]))
				}
				end, err := n.tryFetch(t, fetch.Options{Concurrency: 1}, 0, &there, evil, good)
				require.NoError(t, err)
				named := end.log.with("level=WARN", "not asked again", "http://evil:80", "wrong size: more than")
				assert.Equal(t, tc.named, len(named) == 1, "named %d times", len(named))
				assert.EqualValues(t, tc.present, end.Wasted, "the bytes of the shard were right, and are used")
				for _, r := range good.asked() {
					assert.NotEqual(t, "/v1/shard_001.bin", r.path)
				}
				if tc.named {
					assert.Len(t, evil.asked(), 1)
				}
			})
		})
	}
}

// The bytes of a shard that has its size are verified like any others.
func TestAServerThatSendsMoreThanAWrongShardIsNamed(t *testing.T) {
	const size = 100_000
	version := publish(t, 2*size, size)
	simulate(t, version, func(t *testing.T, n *network) {
		sent := append(flipped(bytes.Clone(version.data[:size])), 'x')
		evil := n.host("evil", 4*megabyte).spoilWith(only("shard_001", by(chunked(sent))))
		end, err := n.tryFetch(t, fetch.Options{Concurrency: 1}, 0, new(memory), evil, n.host("good", 4*megabyte))
		require.NoError(t, err)
		assert.Len(t, end.log.with("level=WARN", "not asked again", "upstream=http://evil:80"), 1)
		assert.EqualValues(t, size, end.Wasted)
	})
}

func TestAnAnswerThatDoesNotEndHoldsUpNoShard(t *testing.T) {
	const size = 100_000
	simulate(t, publish(t, 3*size, size), func(t *testing.T, n *network) {
		endless := n.host("endless", 4*megabyte)
		endless.spoilWith(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			chunked(rec.Body.Bytes())(w, r)
			_ = http.NewResponseController(w).Flush()
			hang(w, r)
		})
		end, err := n.tryFetch(t, fetch.Options{Concurrency: 1, Timeout: time.Minute}, 0, new(memory), endless)
		require.NoError(t, err)
		assert.LessOrEqual(t, end.took, 10*time.Second)
		assert.Empty(t, end.log.with("level=WARN"), "no byte was wrong")
	})
}
