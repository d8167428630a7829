package cli_test

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/cli"
)

// refuses fails t unless value refuses each text, and stays as it is.
func refuses(t *testing.T, value pflag.Value, texts map[string]string) {
	before := value.String()
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			require.Error(t, value.Set(text))
			assert.Equal(t, before, value.String(), "a value that was refused changes nothing")
		})
	}
}

func TestSizeTakesBytesWithAndWithoutAUnit(t *testing.T) {
	for text, want := range map[string]cli.Size{
		"1":                   1,
		"50000000":            50_000_000,
		"50MB":                50_000_000,
		"50 MB":               50_000_000,
		"50mb":                50_000_000,
		"50M":                 50_000_000,
		"64MiB":               64 << 20,
		"64 mib":              64 << 20,
		"1B":                  1,
		"1kB":                 1000,
		"1KiB":                1024,
		"1.5GB":               1_500_000_000,
		"0.5KiB":              512,
		"3TiB":                3 << 40,
		"7EiB":                7 << 60,
		"9007199254740993":    1<<53 + 1, // which no float64 is
		"9223372036854775807": 1<<63 - 1,
	} {
		t.Run(text, func(t *testing.T) {
			var s cli.Size
			require.NoError(t, s.Set(text))
			assert.Equal(t, want, s)
			assert.Equal(t, strconv.FormatInt(int64(want), 10), s.String())
		})
	}
}

func TestSizeRefusesOtherTexts(t *testing.T) {
	s := cli.Size(5)
	refuses(t, &s, map[string]string{
		"nothing":              "",
		"space":                " ",
		"zero":                 "0",
		"zero with a unit":     "0MB",
		"less than a byte":     "0.4",
		"negative":             "-1",
		"negative with a unit": "-50MB",
		"sign":                 "+50MB",
		"unit alone":           "MB",
		"an unknown unit":      "50parsecs",
		"words":                "fifty",
		"two numbers":          "50 50",
		"two units":            "1MB1MB",
		"hexadecimal":          "0x10",
		"exponent":             "1e6",
		"two points":           "1.2.3",
		"not a number":         "NaN",
		"infinity":             "Inf",
		"beyond int64":         "9223372036854775808",
		"beyond uint64":        "18446744073709551616",
		"8 EiB":                "8EiB",
		"20 EiB":               "20EiB",
		"a very long number":   strings.Repeat("9", 10_000),
		"arabic digits":        "\u0665\u0660MB",
		"not UTF-8":            "5\xff",
		"NUL":                  "5\x00",
	})
}

func TestRateTakesBytesPerSecond(t *testing.T) {
	for text, want := range map[string]cli.Rate{
		"1":                     1,
		"1/s":                   1,
		"50000000":              50_000_000,
		"50MB":                  50_000_000,
		"50MB/s":                50_000_000,
		"50 MB/s":               50_000_000,
		"64MiB/s":               64 << 20,
		"10kB/s":                10_000,
		"1.5GB/s":               1_500_000_000,
		"9223372036854775807/s": 1<<63 - 1,
	} {
		t.Run(text, func(t *testing.T) {
			var r, again cli.Rate
			require.NoError(t, r.Set(text))
			assert.Equal(t, want, r)
			require.NoError(t, again.Set(r.String()))
			assert.Equal(t, r, again)
		})
	}
}

func TestRateRefusesOtherTexts(t *testing.T) {
	r := cli.Rate(5)
	refuses(t, &r, map[string]string{
		"nothing":            "",
		"no number":          "/s",
		"zero":               "0",
		"zero per second":    "0MB/s",
		"less than a byte":   "0.4/s",
		"negative":           "-50MB/s",
		"per second twice":   "50MB/s/s",
		"per minute":         "50MB/m",
		"another way":        "50MBps",
		"bits":               "50Mbit/s",
		"words":              "fast",
		"comma":              "1,5MB/s",
		"beyond int64":       "9223372036854775808",
		"not a number":       "NaN",
		"a very long number": strings.Repeat("9", 10_000) + "/s",
	})
	require.EqualError(t, r.Set("fast"), "want 1 byte per second or more, such as 50MB/s, 64MiB/s or 50000000")
}

func TestSecondsTakesNumbersAndDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30":          30 * time.Second,
		"0.25":        250 * time.Millisecond,
		"1e3":         1000 * time.Second,
		"1s":          time.Second,
		"1m30s":       90 * time.Second,
		"250ms":       250 * time.Millisecond,
		"2h":          2 * time.Hour,
		"1ns":         1,
		"0.000000001": 1,
		"31536000":    365 * 24 * time.Hour,
		"31536000s":   365 * 24 * time.Hour,
	} {
		t.Run(text, func(t *testing.T) {
			var s cli.Seconds
			require.NoError(t, s.Set(text))
			assert.Equal(t, want, time.Duration(s))
		})
	}
}

func TestSecondsIsWrittenAsItIsRead(t *testing.T) {
	for text, want := range map[string]string{
		"30": "30", "0.25": "0.25", "1m30s": "90", "1ms": "0.001", "1ns": "0.000000001", "24h": "86400",
	} {
		t.Run(text, func(t *testing.T) {
			var s, again cli.Seconds
			require.NoError(t, s.Set(text))
			assert.Equal(t, want, s.String())
			require.NoError(t, again.Set(s.String()))
			assert.Equal(t, s, again)
		})
	}
}

func TestSecondsRefusesOtherTexts(t *testing.T) {
	s := cli.Seconds(time.Second)
	refuses(t, &s, map[string]string{
		"nothing":                 "",
		"zero":                    "0",
		"zero with a unit":        "0s",
		"negative":                "-1",
		"negative with a unit":    "-1s",
		"less than a nanosecond":  "1e-10",
		"not a number":            "NaN",
		"infinity":                "Inf",
		"more than a year":        "31536001",
		"overflow":                "1e300",
		"overflow of the float":   "1e999",
		"overflow of a duration":  "9999999999999h",
		"words":                   "soon",
		"an unknown unit":         "5d",
		"space":                   "5 s",
		"two numbers":             "5 5",
		"a comma":                 "0,5",
		"a number and a duration": "5,1s",
	})
}

func TestSecondsBoundsDurationsWithAUnitToo(t *testing.T) {
	var s cli.Seconds
	require.Error(t, s.Set("8761h"), "a year and an hour, where as many seconds are refused")
}

func TestPatienceTakesZeroAndTheTextsOfSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "0.0": 0, "30": 30 * time.Second, "10m": 10 * time.Minute, "0.25": 250 * time.Millisecond,
		"31536000": 365 * 24 * time.Hour,
	} {
		t.Run(text, func(t *testing.T) {
			var p, again cli.Patience
			require.NoError(t, p.Set(text))
			assert.Equal(t, want, time.Duration(p))
			require.NoError(t, again.Set(p.String()))
			assert.Equal(t, p, again)
		})
	}
	p := cli.Patience(time.Second)
	refuses(t, &p, map[string]string{
		"nothing":               "",
		"negative":              "-1",
		"negative with a unit":  "-1s",
		"not a number":          "NaN",
		"infinity":              "Inf",
		"less than infinity":    "-Inf",
		"more than a year":      "31536001",
		"more with a unit":      "8761h",
		"overflow":              "1e300",
		"overflow of the float": "1e999",
		"words":                 "long",
	})
}

func TestCountTakesOneToAMillion(t *testing.T) {
	for text, want := range map[string]cli.Count{"1": 1, "15": 15, "1000000": 1_000_000} {
		t.Run(text, func(t *testing.T) {
			var c cli.Count
			require.NoError(t, c.Set(text))
			assert.Equal(t, want, c)
			assert.Equal(t, text, c.String())
		})
	}
	c := cli.Count(5)
	refuses(t, &c, map[string]string{
		"nothing":      "",
		"zero":         "0",
		"negative":     "-1",
		"too many":     "1000001",
		"beyond int64": "9223372036854775808",
		"fraction":     "1.5",
		"hexadecimal":  "0x10",
		"words":        "ten",
		"space":        " 1",
		"underscore":   "1_000",
		"exponent":     "1e3",
	})
}

func TestPortTakesEveryPort(t *testing.T) {
	for text, want := range map[string]cli.Port{"0": -1, "1": 1, "8000": 8000, "65535": 65535} {
		t.Run(text, func(t *testing.T) {
			var p cli.Port
			require.NoError(t, p.Set(text))
			assert.Equal(t, want, p, "0 is any free port, which is negative in options")
			assert.Equal(t, text, p.String())
		})
	}
	p := cli.Port(8000)
	refuses(t, &p, map[string]string{
		"nothing": "", "negative": "-1", "too large": "65536", "much too large": "99999999999999999999",
		"name": "http", "colon": ":8000", "space": "8000 ", "fraction": "80.0", "sign": "+80", "hexadecimal": "0x50",
	})
}

func TestPrefixesAddUp(t *testing.T) {
	var p cli.Prefixes
	require.NoError(t, p.Set("10.0.0.0/8, 2001:db8::5/32"))
	require.NoError(t, p.Set("192.0.2.7/32"))
	assert.Equal(t, "10.0.0.0/8,2001:db8::/32,192.0.2.7/32", p.String())
}

func TestPrefixesRefuseOtherTexts(t *testing.T) {
	p := cli.Prefixes{netip.MustParsePrefix("10.0.0.0/8")}
	refuses(t, &p, map[string]string{
		"nothing":            "",
		"an address":         "10.0.0.1",
		"a name":             "localhost/8",
		"too many bits":      "10.0.0.0/33",
		"a mask":             "10.0.0.0/255.0.0.0",
		"a zone":             "fe80::%eth0/64",
		"a comma at the end": "10.0.0.0/8,",
		"one that is none":   "10.0.0.0/8,nonsense",
		"mapped into IPv6":   "::ffff:10.0.0.0/104",
	})
}

func TestParseListTakesEveryFormOfAList(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"one":                      {"10.0.0.1", []string{"10.0.0.1"}},
		"commas":                   {"a,b,c", []string{"a", "b", "c"}},
		"commas and spaces":        {"a, b ,c", []string{"a", "b", "c"}},
		"spaces":                   {"a b  c", []string{"a", "b", "c"}},
		"space around":             {" \t a b \n", []string{"a", "b"}},
		"tabs and lines":           {"a\tb\nc\r\nd", []string{"a", "b", "c", "d"}},
		"a comma at the end":       {"a,b,", []string{"a", "b"}},
		"two commas":               {"a,,b", []string{"a", "b"}},
		"the shell's array":        {`("10.0.0.1" "10.0.0.2")`, []string{"10.0.0.1", "10.0.0.2"}},
		"the array over lines":     {"(\n  \"a\"\n  \"b\"\n)", []string{"a", "b"}},
		"the array, space around":  {` ( "a" "b" ) `, []string{"a", "b"}},
		"the array without quotes": {"(a b)", []string{"a", "b"}},
		"the array with commas":    {`("a", "b")`, []string{"a", "b"}},
		"single quotes":            {"('a' 'b')", []string{"a", "b"}},
		"quotes without an array":  {`"a" "b"`, []string{"a", "b"}},
		"quotes and commas":        {`"a",'b',c`, []string{"a", "b", "c"}},
		"URLs and ports": {"http://a:8000/x,https://b b:81", []string{
			"http://a:8000/x", "https://b",
			"b:81",
		}},
		"IPv6":                       {"[::1]:8000 ::1", []string{"[::1]:8000", "::1"}},
		"the same twice":             {"a a", []string{"a", "a"}},
		"in the order they stand":    {"c,a,b", []string{"c", "a", "b"}},
		"letters that are not Latin": {"m\u00fcnchen.example", []string{"m\u00fcnchen.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := cli.ParseList(tc.text)
			require.NoError(t, err)
			assert.Equal(t, tc.want, list)

			var a cli.Addresses
			require.NoError(t, a.Set(tc.text))
			assert.Equal(t, tc.want, []string(a))
			assert.Equal(t, strings.Join(tc.want, ","), a.String())
		})
	}
}

func TestParseListSeparatesAtAnyWhiteSpace(t *testing.T) {
	for name, text := range map[string]string{
		"no-break space": "a\u00a0b", // as pasted from a page
		"vertical tab":   "a\vb",
		"form feed":      "a\fb",
		"line separator": "a\u2028b",
	} {
		t.Run(name, func(t *testing.T) {
			list, err := cli.ParseList(text)
			require.NoError(t, err)
			assert.Equal(t, []string{"a", "b"}, list)
		})
	}
}

func TestParseListRefusesOtherTexts(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":               "",
		"space":                 " \t\n",
		"commas":                ",,",
		"an empty array":        "()",
		"an array of space":     "( )",
		"an array not closed":   `("a" "b"`,
		"an array not opened":   `"a" "b")`,
		"a parenthesis alone":   "(",
		"closed alone":          ")",
		"an array in an array":  "((a))",
		"two arrays":            "(a) (b)",
		"something behind":      "(a) b",
		"something before":      "a (b)",
		"empty quotes":          `""`,
		"empty among others":    `("a" "")`,
		"quotes not closed":     `"a`,
		"quotes not opened":     `a"`,
		"quotes that differ":    `"a'`,
		"one quote":             `"`,
		"quotes within":         `a"b`,
		"quotes around two":     `"a b"`,
		"no space between":      `("a""b")`,
		"quotes around quotes":  `"'a'"`,
		"parenthesis in quotes": `"(a)"`,
	} {
		t.Run(name, func(t *testing.T) {
			list, err := cli.ParseList(text)
			require.Error(t, err)
			assert.Nil(t, list)
		})
	}
}

func FuzzParseList(f *testing.F) {
	for _, text := range []string{
		"", "a", "a,b", "a b", `("a" "b")`, "('a' b)", "(a", "a)", `"a`, `""`, "((a))", "()", `a"b`, `("a""b")`, ", ,",
		"a\u00a0b", "\xff,a",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := cli.ParseList(text)
		if err != nil {
			require.Nil(t, list)
			return
		}
		require.NotEmpty(t, list)
		for _, word := range list {
			require.NotEmpty(t, word)
			require.False(t, strings.ContainsAny(word, ", \t\r\n\"'()"), "%q holds what stands between servers", word)
			require.Contains(t, text, word)
		}
		again, err := cli.ParseList(`("` + strings.Join(list, `" "`) + `")`)
		require.NoError(t, err)
		require.Equal(t, list, again)
	})
}

func FuzzSize(f *testing.F) {
	for _, text := range []string{
		"50MB", "64MiB", "50000000", "0", "-1", "", "MB", "1.5GB", "1,000", "9223372036854775807",
		"9223372036854775808",
		"8EiB", "9999999999EB", "NaN", "1e6", "\u0665MB", "1\u0665", ".", ",",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		const untouched = 12345
		s := cli.Size(untouched)
		if err := s.Set(text); err != nil {
			require.EqualValues(t, untouched, s)
			return
		}
		require.Positive(t, s)
		var again cli.Size
		require.NoError(t, again.Set(s.String()))
		require.Equal(t, s, again)
	})
}

func TestDialectIsThatOfARelease(t *testing.T) {
	var d cli.Dialect
	require.NoError(t, d.Set("0.3"))
	assert.Equal(t, "0.3", d.String())
	refuses(t, &d, map[string]string{
		"nothing":     "",
		"no release":  "0.4",
		"a later one": "0.3.2",
		"a comma":     "0,3",
		"a space":     " 0.1",
		"its path":    "py03",
	})
	require.NoError(t, d.Set("0.1"))
	assert.Equal(t, cli.Dialect("0.1"), d)
}
