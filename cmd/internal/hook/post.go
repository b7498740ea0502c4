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
	// Waits between attempts start at firstWait and double up to maxWait, with a jitter of
	// one half.
	firstWait = time.Second
	maxWait   = time.Minute

	// maxAnswer bounds the part of an answer that is read, to reuse the connection.
	maxAnswer = 4 << 10

	// descriptorsOfPost: a connection to the server, and one to the name server.
	descriptorsOfPost = 2
)

// newClient returns a client for that many posts at a time. It uses the proxy that the
// environment names. It follows no redirect: posts are only for the host that the user
// named.
func newClient(jobs int) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = jobs
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post posts files to a URL.
type post struct {
	url       string
	client    *http.Client
	userAgent string
	timeout   time.Duration // for an attempt
	retry     time.Duration // for starting attempts
}

// message is the body of a post.
type message struct {
	Number  uint64 `json:"number"`
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	Outcome string `json:"outcome"`
	Peer    string `json:"peer"`
	Time    string `json:"time"`
}

// run posts s until an answer is final or ctx is done. Answers with status 429 and 5xx
// are not final. A post can arrive twice, if its answer is lost.
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
		return fmt.Errorf("gave up after %d attempts: %w", tries, err)
	}
	return err
}

// attempt posts once. Its errors do not show the URL, which may hold a secret.
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

// retryAfter returns the wait that an answer asks for, in seconds or as a date (RFC 9110,
// 10.2.3). It is at least firstWait, with a jitter.
func retryAfter(text string) (d time.Duration, ok bool) {
	const most = 24 * time.Hour // a longer wait makes no difference
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
