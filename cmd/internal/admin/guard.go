package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// answerTime bounds an answer that is not a stream.
const answerTime = 30 * time.Second

// guard refuses requests that a foreign page makes in a browser. Its headers restrict our
// own page to the resources it needs.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		control := http.NewResponseController(w)
		now := time.Now()
		control.SetWriteDeadline(now.Add(answerTime))
		switch {
		case r.ContentLength != 0:
			// Do not wait for the body either, as net/http would.
			control.SetReadDeadline(now)
			h.Set("Connection", "close")
			plain(w, http.StatusBadRequest, "a body makes no sense")
		case s.local && !local(r.Host):
			plain(w, http.StatusMisdirectedRequest, fmt.Sprintf("this is not %q: use localhost or 127.0.0.1", short(r.Host)))
		case r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate":
			plain(w, http.StatusForbidden, "a page from elsewhere may not ask for this")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// local reports whether a Host header is a loopback name. A foreign name that resolves to
// this machine (DNS rebinding) is none.
func local(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = hostPort
	}
	if host == "localhost" {
		return true
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// plain answers with one line.
func plain(w http.ResponseWriter, code int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprintln(w, line)
}
