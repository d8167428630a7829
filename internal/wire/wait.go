package wire

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// PreferWait returns the field Prefer of a request whose answer the server may hold back
// for d (RFC 7240, section 4.3), in whole seconds. The field Preference-Applied has the
// same form.
func PreferWait(d time.Duration) string { return "wait=" + strconv.Itoa(int(d.Seconds())) }

// PreferredWait returns for how long, [MaxWait] at most, the fields named Prefer of a
// request allow the answer to be held back, and whether one of them does so in a form
// that can be understood. The first one counts (RFC 7240, section 2).
func PreferredWait(prefer []string) (wait time.Duration, ok bool) {
	value, ok := preference(prefer, "wait")
	if !ok {
		return 0, false
	}
	return parseSeconds(value)
}

// WaitApplied reports whether the fields named Preference-Applied of an answer state that
// the server holds requests back (RFC 7240, section 3).
func WaitApplied(applied []string) bool {
	_, ok := preference(applied, "wait")
	return ok
}

// preference returns the value of the first preference called name in fields.
func preference(fields []string, name string) (value string, ok bool) {
	for _, field := range fields {
		for field != "" {
			var one string
			one, field = cutUnquoted(field, ',')
			one, _ = cutUnquoted(one, ';') // its parameters
			key, value, _ := strings.Cut(one, "=")
			if strings.EqualFold(strings.Trim(key, " \t"), name) {
				return strings.Trim(value, " \t"), true
			}
		}
	}
	return "", false
}

// cutUnquoted cuts s at the first separator outside quoted strings (RFC 9110, section
// 5.6.4).
func cutUnquoted(s string, separator byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == separator && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// parseSeconds reads digits, which may be quoted. A number too large for an int counts as
// [MaxWait].
func parseSeconds(s string) (wait time.Duration, ok bool) {
	if inner, ok := strings.CutPrefix(s, `"`); ok {
		if s, ok = strings.CutSuffix(inner, `"`); !ok {
			return 0, false
		}
	}
	seconds := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		seconds = min(seconds*10+int(c-'0'), int(MaxWait.Seconds()))
	}
	return time.Duration(seconds) * time.Second, s != ""
}

// RetryAfter reads the field Retry-After of an answer, a number of seconds or a date (RFC
// 9110, section 10.2.3). A field that is neither counts as a second. The result is never
// negative and has no upper bound: [MaxRetryAfter] is the client's.
func RetryAfter(field string) time.Duration {
	if seconds, err := strconv.ParseUint(field, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(field); err == nil {
		return max(time.Until(at), 0)
	}
	return time.Second
}
