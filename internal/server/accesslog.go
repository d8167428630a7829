package server

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
)

// accessTime is a time in the Combined Log Format.
const accessTime = "02/Jan/2006:15:04:05 -0700"

// maxLogged in bytes is the logged part of a field that a client has sent.
const maxLogged = 2 << 10

// accessLog writes a line for each answer:
//
//	ADDRESS - NAME [TIME] "METHOD PATH PROTOCOL" STATUS BYTES "REFERER" "USER-AGENT" SECONDS
//
// This is the Combined Log Format of the Apache server, followed by the seconds that the
// answer took. NAME is that of the token, or -, and TIME when the request came. Fields of the
// client are escaped as nginx does, so that none of them can end its field or its line, or
// control a terminal.
type accessLog struct {
	logger *slog.Logger

	mu      sync.Mutex // guards what follows
	out     io.Writer
	failing bool
}

// newAccessLog returns a log that writes to out, or nil if out is nil.
func newAccessLog(out io.Writer, logger *slog.Logger) *accessLog {
	if out == nil {
		return nil
	}
	return &accessLog{out: out, logger: logger}
}

// write writes the line for an answer.
func (l *accessLog) write(c *counted) {
	line := accessLine(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.out.Write(line)
	if err != nil && !l.failing {
		l.logger.Error("access log failed", "err", err)
	}
	l.failing = err != nil
}

// accessLine returns the line for an answer that was sent.
func accessLine(c *counted) []byte {
	r := c.request
	host := "-" // of another kind of socket
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		host = addr.Addr().Unmap().WithZone("").String()
	}
	name := cmp.Or(c.target.asker.reader.Name, "-")
	line := fmt.Appendf(nil, `%s - %s [%s] "`, host, name, c.begun.Format(accessTime))
	line = appendEscaped(line, r.Method)
	line = append(line, ' ')
	line = appendEscaped(line, r.RequestURI)
	line = append(line, ' ')
	line = appendEscaped(line, r.Proto)
	line = fmt.Appendf(line, `" %d %d "`, c.status, c.bytes)
	line = appendEscaped(line, cmp.Or(r.Referer(), "-"))
	line = append(line, `" "`...)
	line = appendEscaped(line, cmp.Or(r.UserAgent(), "-"))
	return fmt.Appendf(line, "\" %.6f\n", c.took.Seconds())
}

// appendEscaped appends field with \xHH in place of quotes, backslashes and all bytes that
// are not printable ASCII.
func appendEscaped(line []byte, field string) []byte {
	for _, b := range []byte(field[:min(len(field), maxLogged)]) {
		if b < ' ' || b > '~' || b == '"' || b == '\\' {
			line = fmt.Appendf(line, `\x%02X`, b)
		} else {
			line = append(line, b)
		}
	}
	return line
}
