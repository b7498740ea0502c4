package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// Waits between attempts begin with firstWait and double up to maxWait, half as much
	// more or less each.
	firstWait = time.Second
	maxWait   = time.Minute

	// maxAnswer is what is read of an answer, so that its connection can be used again.
	maxAnswer = 4 << 10

	// descriptorsOfPost: a connection, and one to who knows the host's address.
	descriptorsOfPost = 2
)

// newClient returns a client for some posts at a time. It goes through the proxy that the
// environment names, as usual, and nowhere that an answer sends it: what is posted is for
// whom the user has named.
func newClient(jobs int) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = jobs
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post is a URL to which files are told.
type post struct {
	url       string
	client    *http.Client
	userAgent string
	timeout   time.Duration // of an attempt
	retry     time.Duration // in which attempts begin
}

// message is what is posted.
type message struct {
	Number  uint64 `json:"number"`
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	Outcome string `json:"outcome"`
	Peer    string `json:"peer"`
	Time    string `json:"time"`
}

// run posts s until there is an answer that takes it (2xx) or that nothing will change,
// which is all but 429 and 5xx; or ctx is done. So a post may arrive twice, if its answer
// is lost.
func (p post) run(ctx context.Context, s Saved) error {
	body, err := json.Marshal(message{s.Number, s.Path, s.Size, s.Outcome.String(), s.Peer, stamp(s.Time)})
	if err != nil {
		return err
	}
	tries := 0
	var last error
	attempt := func() (struct{}, error) {
		tries++
		last = p.attempt(ctx, body)
		return struct{}{}, last
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval, wait.Multiplier = firstWait, maxWait, 2
	limit := backoff.WithMaxElapsedTime(p.retry)
	if p.retry <= 0 {
		limit = backoff.WithMaxTries(1)
	}
	_, err = backoff.Retry(ctx, attempt, backoff.WithBackOff(wait), limit)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && !errors.Is(last, context.Canceled):
		return fmt.Errorf("%w; attempt %d failed: %w", context.Cause(ctx), tries, last)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case tries > 1:
		return fmt.Errorf("given up after %d attempts: %w", tries, err)
	}
	return err
}

// attempt posts once. An error does not tell the URL, in which there may be a secret.
func (p post) attempt(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return backoff.Permanent(withoutURL(err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", p.userAgent)
	resp, err := p.client.Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s does not answer within %v", req.URL.Host, p.timeout)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", req.URL.Host, withoutURL(err))
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, maxAnswer)
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err = fmt.Errorf("%s answers %s", req.URL.Host, resp.Status)
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode/100 != 5 {
		return backoff.Permanent(err)
	}
	if d, ok := retryAfter(resp.Header.Get("Retry-After")); ok {
		err = fmt.Errorf("%w: %w", err, &backoff.RetryAfterError{Duration: d})
	}
	return err
}

func withoutURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// retryAfter is how long to wait, as an answer has asked for by seconds or a date (RFC
// 9110, 10.2.3): never less than is waited at first anyway, and a little longer, so that
// not all come back at once.
func retryAfter(text string) (d time.Duration, ok bool) {
	const most = 24 * time.Hour // beyond, it is as good as never
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil {
		d = time.Duration(min(seconds, uint64(most/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = min(time.Until(at), most)
	} else {
		return 0, false
	}
	d = max(d, firstWait)
	return d + rand.N(d/4), true
}
