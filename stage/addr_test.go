package stage

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// hostileName is one that a proxy can give a client's Unix socket.
const hostileName = "/run/x\n2026-01-01 level=INFO msg=\"forged\" \\\r\x1b[2J\x00\x7f\x9b\u009b\u202e\u2028"

func TestAddrString(t *testing.T) {
	for _, tt := range []struct {
		addr net.Addr
		want string
	}{
		{nil, ""},
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:4711")), "127.0.0.1:4711"},
		{net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[fe80::1%eth0]:4711")), "[fe80::1%eth0]:4711"},
		{&net.UnixAddr{Net: "unix", Name: ""}, ""},
		{&net.UnixAddr{Net: "unix", Name: "/run/a socket/ä"}, "/run/a socket/ä"},
		{&net.UnixAddr{Net: "unix", Name: hostileName}, `/run/x\n2026-01-01 level=INFO msg=\"forged\" \\\r\x1b[2J\x00\x7f\x9b\u009b\u202e\u2028`},
	} {
		if got := AddrString(tt.addr); got != tt.want {
			t.Errorf("%#v is %s, want %s", tt.addr, got, tt.want)
		}
	}
}

// Who decodes a record of the log, and shows what is in it, shows nothing that a terminal
// obeys.
func TestThePeerInALogIsPrintable(t *testing.T) {
	server, client := net.Pipe()
	client.Close()
	var out bytes.Buffer
	named := from{server, &net.UnixAddr{Net: "unix", Name: hostileName}}
	Serve(t.Context(), named, 1, Log{Logger: slog.New(slog.NewJSONHandler(&out, nil))}.Wrap(Receive))
	var record struct{ Peer string }
	if err := json.Unmarshal(out.Bytes(), &record); err != nil {
		t.Fatalf("%v: %q", err, out.Bytes())
	}
	if record.Peer == "" || strings.ContainsFunc(record.Peer, func(r rune) bool { return !strconv.IsPrint(r) }) {
		t.Errorf("the peer is %q", record.Peer)
	}
}
