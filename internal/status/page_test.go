package status_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/status"
)

func ptr[T any](v T) *T { return &v }

// at is so many seconds after some moment.
func at(seconds float64) time.Time {
	return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

// middle is the status of a middle with a value in almost every field.
func middle() status.Status {
	v2 := of(here, here, part, missing)
	v2.Version, v2.Name, v2.Date, v2.ShardSize = "v2", "weights.bin", at(-90), 10
	v2.Expect(2, at(0))
	v1 := of(here)
	v1.Version, v1.State, v1.Digest = "v1", status.Here, strings.Repeat("ab", 32)
	return status.Status{
		Role: "middle", Host: "relay-7", Build: "v1.2.3", Time: at(0), Started: at(-7200), NotReady: "v3 is not here",
		Versions: []status.Version{v2, v1}, MoreVersions: 1,
		Upstreams: []status.Upstream{
			{
				Upstream: "http://a:8000", State: "sending", Up: true, Newest: "v2",
				Received: 3e6, Share: 0.75, Speed: 5e6, Throughput: 1e6, Success: ptr(0.985),
			},
			{
				Upstream: "http://b:8000", State: "failing",
				Received: 1e6, Share: 0.25, Error: "it answers 500", ErrorTime: at(-61),
			},
		},
		Downloads: []status.Download{
			{Client: "10.0.0.7", Version: "v2", Transfers: 3, Sent: 2e6, Since: at(-20), Speed: 1e5},
		},
		MoreDownloads: 2,
		Throughput: status.Throughput{Sent: 4e6, Received: ptr(int64(5e6)), Samples: []status.Sample{
			{Time: at(-10), Sent: 0, Received: ptr(int64(8e6))}, {Time: at(-5), Sent: 4e6, Received: ptr(int64(5e6))},
		}},
		Disk: status.Disk{Used: 4e9, Free: ptr(int64(5e10))},
	}
}

// html returns the page of s.
func html(t *testing.T, s status.Status) string {
	t.Helper()
	text, err := s.HTML()
	require.NoError(t, err)
	return string(text)
}

// text returns the text that a reader sees on a page, with a blank between two elements.
func text(page string) string {
	_, body, _ := strings.Cut(page, "<body>")
	body, _, _ = strings.Cut(body, "<script>")
	body = regexp.MustCompile(`<wbr>|<span class="port">(:[0-9]+:?)</span>`).ReplaceAllString(body, "$1")
	body = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")
	return strings.Join(strings.Fields(strings.ReplaceAll(body, "\u00a0", " ")), " ")
}

func TestThePageShowsAllThatTheJSONHas(t *testing.T) {
	got := text(html(t, middle()))
	for _, want := range []string{
		"shardcast middle on relay-7", "Not ready : v3 is not here", "up 2 h", "build v1.2.3", "as of 12:00:00 UTC",
		"v2 arriving weights.bin 40 B 1 min ago shards 1 to 2 here, shard 3 arriving, shard 4 missing " +
			"2 of 4 shards here, 1 arriving, 1 missing 24 B of 40 B, here in about 8 s, 12:00 UTC not known yet",
		"v1 – 10 B – shard 1 here 1 shard here abab", "And 1 older version.",
		"Out 4.0 MB/s now, 4.0 MB/s at most", "In 5.0 MB/s now, 8.0 MB/s at most", "upper line: 8.0 MB/s",
		"Used here 4.0 GB", "Free 50 GB",
		"http://a:8000 sending v2 75% 3.0 MB 5.0 MB/s 1.0 MB/s 98% none",
		"http://b:8000 failing – 25% 1.0 MB 0 B/s – – 1 min ago: it answers 500",
		"10.0.0.7 v2 3 shards 100 kB/s 2.0 MB 20 s", "And 2 slower ones.",
	} {
		assert.Contains(t, got, want)
	}
}

func TestAVersionShowsItsDeltas(t *testing.T) {
	s := middle()
	s.Versions[0].Deltas = []status.Delta{{Base: "v1", Size: 7_100_000}}
	assert.Contains(t, html(t, s), "<small>7.1\u00a0MB from v1</small>")
	assert.NotContains(t, html(t, middle()), "from v1")
}

func TestAMiddleShowsWhatDeltasHaveSaved(t *testing.T) {
	s := middle()
	assert.NotContains(t, text(html(t, s)), "Saved by deltas")
	s.DeltaSaved = 12_300_000
	assert.Contains(t, text(html(t, s)), "8.0 MB/s at most Saved by deltas 12 MB")
	text, err := s.JSON()
	require.NoError(t, err)
	assert.Contains(t, string(text), `"delta_saved":12300000`)
}

func TestAnEmptyOriginShowsThatItIsEmpty(t *testing.T) {
	got := text(html(t, status.Status{Role: "origin", Ready: true}))
	for _, want := range []string{
		"shardcast origin Ready", "No version is on offer yet.", "No client receives shards now.",
		"Out 0 B/s The plot begins",
		"Used here 0 B Free –",
	} {
		assert.Contains(t, got, want)
	}
	assert.NotContains(t, got, "Upstreams")
	assert.NotContains(t, got, "In 0 B/s")
}

func TestThePageEscapesEachText(t *testing.T) {
	evil := `</title></script><script>alert(1)</script><img src=x onerror=alert(1)>"'` + "`{{.}}\u202e\x00"
	s := middle()
	s.NotReady, s.Build, s.Role, s.Host = evil, evil, evil, evil
	for i := range s.Versions {
		v := &s.Versions[i]
		v.Version, v.State, v.Name, v.Digest = evil, evil, evil, evil
	}
	for i := range s.Upstreams {
		u := &s.Upstreams[i]
		u.Upstream, u.State, u.Newest, u.Error = evil, evil, evil, evil
	}
	s.Downloads[0].Client, s.Downloads[0].Version = evil, evil
	page := html(t, s)
	assert.Equal(t, 1, strings.Count(page, "<script"))
	assert.NotContains(t, page, "<img")
	assert.Equal(t, strings.Count(html(t, middle()), "</title>"), strings.Count(page, "</title>"))
	for _, tag := range regexp.MustCompile(`<[^>]*alert[^>]*>`).FindAllString(page, -1) {
		assert.NotContains(t, tag, `"'`, "the text ended an attribute")
	}
	text, err := s.JSON()
	require.NoError(t, err)
	assert.NotContains(t, string(text), "<script")
}

func TestThePolicyAllowsTheEmbeddedStyleAndScriptAlone(t *testing.T) {
	page := html(t, middle())
	for directive, tag := range map[string]string{"style-src": "style", "script-src": "script"} {
		found := regexp.MustCompile(`(?s)<`+tag+`>(.*)</`+tag+`>`).FindAllStringSubmatch(page, -1)
		require.Len(t, found, 1)
		digest := sha256.Sum256([]byte(found[0][1]))
		assert.Contains(t, status.Policy(), directive+" 'sha256-"+base64.StdEncoding.EncodeToString(digest[:])+"';")
	}
	assert.Contains(t, status.Policy(), "default-src 'none'")
	rest := regexp.MustCompile(`(?s)<(script|style)>.*</(script|style)>`).ReplaceAllString(page, "")
	assert.NotRegexp(t, `\son\w+=|\sstyle=`, rest, "the policy forbids these")
}

func TestThePageIsOneFile(t *testing.T) {
	page := html(t, middle())
	for _, link := range regexp.MustCompile(`(?:src|href|url)[=(]["']?([^"' >)]*)`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(link[1], "data:") {
			assert.Contains(t, []string{"status.json", "metrics"}, link[1])
		}
	}
	assert.NotContains(t, page, "@import")
}

func TestAScreenReaderCanReadTablesAndDrawings(t *testing.T) {
	page := html(t, middle())
	assert.Equal(t, 3, strings.Count(page, "<table"))
	assert.Equal(t, 3, strings.Count(page, "<caption>"))
	assert.NotRegexp(t, `<th [^>]*>`, regexp.MustCompile(`<th scope="(col|row)" [^>]*>`).ReplaceAllString(page, ""))
	assert.Contains(t, page, `<html lang="en">`)
	for _, svg := range regexp.MustCompile(`(?s)<svg class.*?</svg>`).FindAllString(page, -1) {
		assert.Contains(t, svg, `role="img"`)
		assert.Contains(t, svg, "<title")
	}
	ids := regexp.MustCompile(` id="([^"]*)"`).FindAllString(page, -1)
	assert.Len(t, slices.Compact(slices.Sorted(slices.Values(ids))), len(ids), "two elements share an id")
}

func TestThePageIsBounded(t *testing.T) {
	s := middle()
	v := of(slices.Repeat([]status.Shard{part, here, begun, missing}, 16_384)...)
	v.Name = strings.Repeat("n", 255)
	s.Versions = slices.Repeat([]status.Version{v}, status.MaxVersions)
	s.Downloads = slices.Repeat(s.Downloads, status.MaxDownloads)
	for i := range status.MaxSamples {
		one := status.Sample{Time: at(float64(-5 * i)), Sent: 1e9, Received: ptr(int64(1e9))}
		s.Throughput.Samples = append(s.Throughput.Samples, one)
	}
	text, err := s.JSON()
	require.NoError(t, err)
	assert.Less(t, len(text), 1<<20)
	assert.Less(t, len(html(t, s)), 5<<20)
}

func TestALongErrorIsCut(t *testing.T) {
	assert.Empty(t, status.Text(nil))
	assert.Equal(t, "why", status.Text(errors.New("why")))
	long := status.Text(errors.New(strings.Repeat("ä", 1000)))
	assert.LessOrEqual(t, len(long), status.MaxError+3)
	assert.Equal(t, "a_b", status.Text(errors.New("a\xffb")))
}

func TestNamesInTheJSONStayAsTheyAre(t *testing.T) {
	s := middle()
	s.Versions = s.Versions[:1]
	s.Versions[0].Cells = s.Versions[0].Cells[:1]
	s.Upstreams = s.Upstreams[1:]
	s.Upstreams[0].Throughput, s.Upstreams[0].Success, s.Upstreams[0].Newest = 7, ptr(0.5), "v1"
	s.Throughput.Samples = s.Throughput.Samples[:1]
	text, err := s.JSON()
	require.NoError(t, err)
	assert.JSONEq(t, `{"role":"middle","host":"relay-7","build":"v1.2.3","time":"2026-11-26T12:00:00Z",`+
		`"started":"2026-11-26T10:00:00Z",`+
		`"ready":false,"not_ready":"v3 is not here",`+
		`"versions":[{"version":"v2","state":"arriving","name":"weights.bin",`+
		`"date":"2026-11-26T11:58:30Z","shard_size":10,`+
		`"size":40,"done":24,"speed":2,"arrival":"2026-11-26T12:00:08Z",`+
		`"shard_count":4,"here":2,"arriving":1,"missing":1,`+
		`"cells":[{"shards":2,"here":2,"arriving":0,"part":0}]}],"more_versions":1,`+
		`"upstreams":[{"upstream":"http://b:8000","state":"failing","up":false,"newest":"v1",`+
		`"received":1000000,"share":0.25,"speed":0,`+
		`"throughput":7,"success":0.5,"error":"it answers 500","error_time":"2026-11-26T11:58:59Z"}],`+
		`"downloads":[{"client":"10.0.0.7","version":"v2","transfers":3,`+
		`"sent":2000000,"since":"2026-11-26T11:59:40Z","speed":100000}],`+
		`"more_downloads":2,`+
		`"throughput":{"sent":4000000,"received":5000000,`+
		`"samples":[{"time":"2026-11-26T11:59:50Z","sent":0,"received":8000000}]},`+
		`"disk":{"used":4000000000,"free":50000000000}}`, string(text))
	assert.True(t, strings.HasSuffix(string(text), "}\n"), "one line")
}

func TestTheTitleBeginsWithTheHost(t *testing.T) {
	s := middle()
	assert.Contains(t, html(t, s), "<title>relay-7: shardcast middle, v2, not ready</title>")
	s.Host = ""
	assert.Contains(t, html(t, s), "<title>shardcast middle, v2, not ready</title>")
	assert.Contains(t, html(t, s), ">shardcast middle</h1>")
}

func TestOfManyVersionsTheNewestTenAreUnfolded(t *testing.T) {
	var s status.Status
	for n := range 13 {
		v := of(here)
		v.Version, v.State = fmt.Sprintf("v%d", 13-n), status.Here
		s.Versions = append(s.Versions, v)
	}
	s.Versions[11].State = status.Damaged
	before, folded, _ := strings.Cut(html(t, s), `<details id="older">`)
	assert.Contains(t, before, ">v4<")
	assert.NotContains(t, before, ">v3<")
	folded, _, _ = strings.Cut(folded, "</details>")
	assert.Contains(t, folded, "3 older versions, 1 not all here</summary>")
	for _, version := range []string{">v3<", ">v2 <", ">v1<"} {
		assert.Contains(t, folded, version)
	}
	s.Versions = s.Versions[:11]
	assert.Contains(t, html(t, s), ">1 older version</summary>")
	s.Versions = s.Versions[:10]
	assert.NotContains(t, html(t, s), "<details")
}

func TestAnArrivingVersionShowsWhenItWillBeHere(t *testing.T) {
	for want, speed := range map[string]int64{
		"24 B of 40 B, here in about 8 s, 12:00 UTC": 2,
		"24 B of 40 B, stands still":                 0,
	} {
		v := of(here, here, part, missing)
		v.Expect(speed, at(0))
		assert.Contains(t, text(html(t, status.Status{Time: at(0), Versions: []status.Version{v}})), want)
	}
	huge, done := int64(math.MaxInt64), int64(1e9)
	for want, size := range map[string]int64{
		", here in about 27 h, 27 Nov 15:46 UTC": 2e9,
		", more than a year left":                huge,
	} {
		v := of(begun)
		v.Size, v.Done = &size, &done
		v.Expect(10_000, at(0))
		s := status.Status{Time: at(0), Versions: []status.Version{v}}
		assert.Contains(t, text(html(t, s)), want)
		_, err := s.JSON()
		require.NoError(t, err)
	}
	whole := of(here)
	whole.Expect(5, at(0))
	assert.Nil(t, whole.Speed, "it is here")
}

// The whole digest stands in the page, which shows its beginning, so that it can be copied.
func TestADigestIsShortenedByTheStyleAlone(t *testing.T) {
	page := html(t, middle())
	whole := strings.Repeat("ab", 32)
	assert.Contains(t, page, `<code title="`+whole+`">`+whole+`</code>`)
	assert.Contains(t, page, `aria-label="Copy the digest of v1"`)
}

func TestALineBreaksBeforeAPortAndNotWithin(t *testing.T) {
	s := middle()
	for shown, upstream := range map[string]string{
		`http://a<span class="port">:8000</span>/x/y`:         "http://a:8000/x/y",
		`http://[2001:db8::7]<span class="port">:8000</span>`: "http://[2001:db8::7]:8000",
		`dial a<span class="port">:53:</span> no such host`:   "dial a:53: no such host",
	} {
		s.Upstreams[0].Upstream = upstream
		page := html(t, s)
		assert.Contains(t, strings.ReplaceAll(page, "<wbr>", ""), ">"+shown+"<")
		assert.Contains(t, page, `<wbr><span class="port">`)
	}
}

func TestNoTextIsLostBetweenItsPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.StringOf(rapid.SampledFrom([]rune("a:/8 \n[]é"))).Draw(t, "text")
		page, err := status.Status{NotReady: want}.HTML()
		require.NoError(t, err)
		_, got, _ := strings.Cut(string(page), "Not ready</strong>: ")
		got, _, _ = strings.Cut(got, "</span>\n")
		got = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(got, "")
		if got != want {
			t.Fatalf("%q instead of %q", got, want)
		}
	})
}

// Text has the contrast that WCAG 2.2 asks of level AA (success criterion 1.4.3).
func TestTextHasContrast(t *testing.T) {
	themes := regexp.MustCompile(`:root\{[^}]*--bg:[^}]*\}`).FindAllString(html(t, middle()), -1)
	require.Len(t, themes, 2, "light and dark")
	for _, theme := range themes {
		for _, ground := range []string{"bg", "card"} {
			for _, color := range []string{"text", "soft", "link", "good", "fair", "bad"} {
				assert.GreaterOrEqual(t, contrast(t, theme, color, ground), 4.5, "%s on %s in %s", color, ground, theme)
			}
			for _, color := range []string{"here", "come", "in"} {
				assert.GreaterOrEqual(t, contrast(t, theme, color, ground), 3.0, "%s on %s in %s", color, ground, theme)
			}
		}
	}
}

// contrast returns the ratio of two colors of a theme (WCAG 2.2, "contrast ratio").
func contrast(t *testing.T, theme, one, other string) float64 {
	t.Helper()
	luminance := func(name string) (sum float64) {
		found := regexp.MustCompile(`--` + name + `:#(\w+)`).FindStringSubmatch(theme)
		require.NotNil(t, found, name)
		hex := found[1]
		if len(hex) == 3 {
			hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
		}
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			value, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
			require.NoError(t, err)
			c := float64(value) / 255
			if c <= 0.04045 {
				sum += weight * c / 12.92
			} else {
				sum += weight * math.Pow((c+0.055)/1.055, 2.4)
			}
		}
		return sum
	}
	a, b := luminance(one), luminance(other)
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

func TestAgesAreInOneUnit(t *testing.T) {
	for age, want := range map[time.Duration]string{
		-time.Hour: "up 0 s", 59 * time.Second: "up 59 s", time.Minute: "up 1 min", 59 * time.Minute: "up 59 min",
		47 * time.Hour: "up 47 h", 48 * time.Hour: "up 2 days",
	} {
		assert.Contains(t, text(html(t, status.Status{Time: at(0), Started: at(0).Add(-age)})), want+" ")
	}
}

func FuzzJSON(f *testing.F) {
	f.Add("weights.bin", int64(1_770_000_000), 0, 0.5)
	f.Add("</script><b>\x00\u2028\xff", int64(253_402_300_799), -3600, math.NaN())
	f.Add(`"\u0000\`, int64(math.MaxInt64), 86_400, math.Inf(1))
	f.Add("", int64(math.MinInt64), -1, -1.0)
	f.Fuzz(func(t *testing.T, name string, date int64, zone int, part float64) {
		s := middle()
		bad := &s.Versions[0]
		bad.Name, bad.Date = name, time.Unix(date, 0).In(time.FixedZone("", zone))
		bad.Cells = slices.Clone(bad.Cells)
		bad.Cells[0].Part = part
		text, err := s.JSON()
		require.NoError(t, err, "one version hides all others")
		var read struct {
			Versions []struct{ Version, State string }
		}
		require.NoError(t, json.Unmarshal(text, &read))
		require.Len(t, read.Versions, 2)
		require.Equal(t, "v2", read.Versions[0].Version)
		require.Equal(t, status.Here, read.Versions[1].State)
		page := html(t, s)
		require.Contains(t, page, strings.Repeat("ab", 32))
		require.NotContains(t, page, "</script><b>")
	})
}
