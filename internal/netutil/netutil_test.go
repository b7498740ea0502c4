package netutil

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// tcp is a connection that records its calls.
type tcp struct {
	net.Conn
	calls []string
}

func (c *tcp) SetLinger(sec int) error {
	if sec == 0 {
		c.calls = append(c.calls, "linger 0")
	}
	return nil
}

func (c *tcp) Close() error {
	c.calls = append(c.calls, "close")
	return nil
}

// layer is a connection that says goodbye over the one below when it is closed.
type layer struct{ net.Conn }

func (l layer) NetConn() net.Conn { return l.Conn }

func (l layer) Close() error {
	c := Innermost(l).(*tcp)
	c.calls = append(c.calls, "goodbye")
	return l.Conn.Close()
}

func TestReset(t *testing.T) {
	for name, tt := range map[string]struct {
		wrap func(net.Conn) net.Conn
		want string
	}{
		"plain":      {func(c net.Conn) net.Conn { return c }, "linger 0, close, close"},
		"one_layer":  {func(c net.Conn) net.Conn { return layer{c} }, "linger 0, close, goodbye, close"},
		"two_layers": {func(c net.Conn) net.Conn { return layer{layer{c}} }, "linger 0, close, goodbye, goodbye, close"},
	} {
		t.Run(name, func(t *testing.T) {
			c := new(tcp)
			Reset(tt.wrap(c))
			if got := strings.Join(c.calls, ", "); got != tt.want {
				t.Errorf("calls: %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("without_linger", func(t *testing.T) {
		here, there := net.Pipe()
		Reset(here)
		if _, err := there.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read at the peer: %v, want EOF", err)
		}
	})
}

func TestPanicError(t *testing.T) {
	cause := errors.New("two\n\tlines")
	for name, tt := range map[string]struct {
		value  any
		text   string
		unwrap error
	}{
		"string": {"out of\n range", "out of range", nil},
		"error":  {cause, "two lines", cause},
		"number": {42, "42", nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := &PanicError{Value: tt.value, Stack: []byte("goroutine 1")}
			if err.Error() != tt.text {
				t.Errorf("Error: %q, want %q", err.Error(), tt.text)
			}
			if got := errors.Unwrap(err); got != tt.unwrap {
				t.Errorf("Unwrap: %v, want %v", got, tt.unwrap)
			}
		})
	}
}
