package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/stage"
)

// answers are those of a server, in turn; the last one again and again.
type answers []func(*http.Request) (*http.Response, error)

func status(code int, retryAfter string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		h := http.Header{}
		if retryAfter != "" {
			h.Set("Retry-After", retryAfter)
		}
		return &http.Response{StatusCode: code, Status: fmt.Sprintf("%d %s", code, http.StatusText(code)), Header: h, Body: io.NopCloser(strings.NewReader("no"))}, nil
	}
}

func refuses(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }

func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// recorder is a RoundTripper that notes when it was asked, and for what.
type recorder struct {
	answers
	begin  time.Time
	at     []time.Duration
	bodies []string
	last   *http.Request
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(req.Body)
	i := min(len(r.at), len(r.answers)-1)
	r.at, r.bodies, r.last = append(r.at, time.Since(r.begin)), append(r.bodies, string(body)), req
	return r.answers[i](req)
}

var saved = Saved{Number: 7, Path: "/files/7.file", Size: 5, Outcome: stage.OutcomeReceived, Peer: "[::1]:4711", Time: time.Unix(1, 0)}

const asJSON = `{"number":7,"path":"/files/7.file","size":5,"outcome":"received","peer":"[::1]:4711","time":"1970-01-01T00:00:01.000Z"}`

func TestPost(t *testing.T) {
	const longest = 15 * time.Minute // of a test, by the clock of its bubble
	for _, tt := range []struct {
		name    string
		answers answers
		retry   time.Duration
		tries   int // 0: several
		least   time.Duration
		most    time.Duration
		err     string
	}{
		{"taken", answers{status(200, "")}, time.Minute, 1, 0, 0, ""},
		{"taken, and nothing to say", answers{status(204, "")}, time.Minute, 1, 0, 0, ""},
		{"fails twice", answers{status(500, ""), status(503, ""), status(200, "")}, time.Minute, 3, 1500 * time.Millisecond, 4500 * time.Millisecond, ""},
		{"no connection", answers{refuses, status(200, "")}, time.Minute, 2, 500 * time.Millisecond, 1500 * time.Millisecond, ""},
		{"hangs", answers{hangs, status(200, "")}, time.Minute, 2, 5500 * time.Millisecond, 6500 * time.Millisecond, ""},
		{"asks for time", answers{status(429, "20"), status(200, "")}, time.Minute, 2, 20 * time.Second, 25 * time.Second, ""},
		{"asks for no time", answers{status(429, "0"), status(429, "0"), status(200, "")}, time.Minute, 3, 2 * time.Second, 2500 * time.Millisecond, ""},
		{"asks for too much", answers{status(429, "18446744073709551615")}, time.Minute, 1, 0, 0, "host answers 429 Too Many Requests: retry after "},
		{"asks for nonsense", answers{status(503, "soon"), status(200, "")}, time.Minute, 2, 500 * time.Millisecond, 1500 * time.Millisecond, ""},
		{"wants none of it", answers{status(400, "")}, time.Minute, 1, 0, 0, "host answers 400 Bad Request"},
		{"is elsewhere", answers{status(302, "")}, time.Minute, 1, 0, 0, "host answers 302 Found"},
		{"never", answers{status(500, "")}, 10 * time.Minute, 0, 8 * time.Minute, longest, "host answers 500 Internal Server Error"},
		{"not again", answers{status(500, "")}, 0, 1, 0, 0, "host answers 500 Internal Server Error"},
		{"no connection at all", answers{refuses}, 0, 1, 0, 0, "host: refused"},
		{"hangs for ever", answers{hangs}, 0, 1, 5 * time.Second, 5 * time.Second, "host does not answer within 5s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{answers: tt.answers, begin: time.Now()}
				client := newClient(1)
				client.Transport = r
				err := post{"http://user:word@host/path?key=secret", client, "accio-server/1", 5 * time.Second, tt.retry}.run(t.Context(), saved)
				if took := time.Since(r.begin); took < tt.least || took > tt.most {
					t.Errorf("it took %v, want %v to %v", took, tt.least, tt.most)
				}
				if tries := len(r.at); tt.tries > 0 && tries != tt.tries || tries > 30 {
					t.Errorf("asked at %v, want %d times", r.at, tt.tries)
				}
				for _, body := range r.bodies {
					if body != asJSON {
						t.Errorf("posted %s", body)
					}
				}
				if h := r.last.Header; h.Get("Content-Type") != "application/json" || h.Get("User-Agent") != "accio-server/1" || r.last.Method != "POST" {
					t.Errorf("%s with %v", r.last.Method, h)
				}
				switch {
				case tt.err == "" && err != nil:
					t.Error(err)
				case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
					t.Errorf("%v, want %q", err, tt.err)
				case err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "word")):
					t.Errorf("%v: that is nobody's business", err)
				}
			})
		})
	}
}

func TestPostIsBrokenOff(t *testing.T) {
	for name, answer := range map[string]func(*http.Request) (*http.Response, error){"between attempts": refuses, "in one": hangs} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, end := context.WithCancelCause(t.Context())
				time.AfterFunc(100*time.Millisecond, func() { end(errStopped) })
				client := newClient(1)
				client.Transport = &recorder{answers: answers{answer}, begin: time.Now()}
				begin := time.Now()
				err := post{"http://host", client, "", time.Minute, time.Hour}.run(ctx, saved)
				if !errors.Is(err, errStopped) || time.Since(begin) != 100*time.Millisecond {
					t.Errorf("%v after %v", err, time.Since(begin))
				}
			})
		})
	}
}

func TestRetryAfterADate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, ok := retryAfter(time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
		if !ok || d < time.Minute || d > 75*time.Second {
			t.Errorf("%v, %v", d, ok)
		}
		if d, ok := retryAfter(time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)); !ok || d < firstWait || d > 2*firstWait {
			t.Errorf("%v, %v", d, ok)
		}
	})
}
