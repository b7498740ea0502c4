package admin

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
)

func TestAddress(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{":9100", "127.0.0.1:9100"},
		{"127.0.0.2:9100", "127.0.0.2:9100"},
		{"localhost:9100", "localhost:9100"},
		{"0.0.0.0:9100", "0.0.0.0:9100"},
		{"[::1]:9100", "[::1]:9100"},
		{"[::]:65535", "[::]:65535"},
	} {
		var a Address = "before"
		if err := a.UnmarshalText([]byte(tt.text)); err != nil || string(a) != tt.want {
			t.Errorf("%q is %q, %v; want %q", tt.text, a, err, tt.want)
		}
	}
	for _, text := range []string{"9100", "localhost", ":", ":0", ":65536", ":http", "::1:9100", "http://localhost:9100", "a b:1", "127.0.0.1:9100/"} {
		var a Address
		if err := a.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
			t.Errorf("%q is %q, %v; want an error that says what would do", text, a, err)
		}
	}
}

func TestCheck(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	used := Address(ln.Addr().String())
	// 192.0.2.0/24 is nobody's (RFC 5737).
	elsewhere := Options{Address: "192.0.2.1:9100"}
	for _, tt := range []struct {
		name string
		o    Options
		fine bool
	}{
		{"none", Options{}, true},
		{"in use", Options{Address: used}, true},
		{"elsewhere", elsewhere, false},
	} {
		if err := tt.o.Check(t.Context()); (err == nil) != tt.fine {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := (&Options{Address: used}).Listen(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("on an address in use it listens: %v", err)
	}
	ln.Close()
	free := Options{Address: used}
	if err := free.Check(t.Context()); err != nil {
		t.Error(err)
	}
	nowhere, err := (&Options{}).Listen(t.Context())
	if nowhere != nil || err != nil {
		t.Errorf("without an address there is %v, %v", nowhere, err)
	}
	if s := (&Options{}).Start(t.Context(), nowhere, Config{}); s != nil {
		t.Errorf("without an address there is %v", s)
	}
}

func TestValidateAdmin(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		says string // nothing: it is fine
	}{
		{Options{}, ""},
		{Options{Address: "127.0.0.1:9100", Pprof: true}, ""},
		{Options{Address: "127.0.0.1:15000"}, ""},
		{Options{Pprof: true}, "--admin"},
		{Options{Address: "127.0.0.1:5000"}, "127.0.0.1:5000 uses the port of the server"},
		{Options{Address: "[::1]:5000"}, "[::1]:5000 uses the port of the server"},
	} {
		err := tt.o.ValidateAdmin(5000)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v, want %q", tt.o, err, tt.says)
		}
	}
}
