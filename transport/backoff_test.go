package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// asOfAccept is an errno as it comes out of net.Listener.Accept.
func asOfAccept(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", errno)}
}

func TestReactionTo(t *testing.T) {
	tests := []struct {
		name string
		errs []error
		want reaction
	}{
		{"the listener is gone", []error{
			net.ErrClosed,
			&net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed},
			asOfAccept(syscall.EBADF),
			asOfAccept(syscall.EINVAL),
			asOfAccept(syscall.ENOTSOCK),
			asOfAccept(syscall.EOPNOTSUPP),
			asOfAccept(syscall.EFAULT),
			syscall.EBADF,
		}, giveUp},
		{"what it is nobody knows", []error{
			io.EOF,
			os.ErrDeadlineExceeded,
			context.Canceled,
			errors.New("too many open files"), // the words are not what counts
		}, giveUp},
		{"only that connection failed", []error{
			asOfAccept(syscall.ECONNABORTED),
			asOfAccept(syscall.ECONNRESET),
			asOfAccept(syscall.EINTR),
			fmt.Errorf("wrapped: %w", syscall.ECONNABORTED),
		}, retryNow},
		{"the system lacks something", []error{
			asOfAccept(syscall.EMFILE),
			asOfAccept(syscall.ENFILE),
			asOfAccept(syscall.ENOBUFS),
			asOfAccept(syscall.ENOMEM),
			asOfAccept(syscall.EPERM),
			asOfAccept(syscall.ENETDOWN),
			asOfAccept(syscall.EPROTO),
			asOfAccept(syscall.EHOSTUNREACH),
			fmt.Errorf("wrapped: %w", syscall.EMFILE),
		}, retryLater},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, err := range test.errs {
				if got := reactionTo(err); got != test.want {
					t.Errorf("the verdict on %v is %d, want %d", err, got, test.want)
				}
			}
		})
	}
}

func TestBackoffDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff
		for _, ms := range []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000} {
			start := time.Now()
			b.wait(t.Context(), nil)
			if got := time.Since(start); got != ms*time.Millisecond {
				t.Errorf("it waited %v, want %v", got, ms*time.Millisecond)
			}
		}
	})
}

func TestBackoffEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff{next: time.Minute} // which makes it a second
		start := time.Now()

		ended := make(chan struct{})
		time.AfterFunc(time.Millisecond, func() { ended <- struct{}{} })
		b.wait(t.Context(), ended)
		if got := time.Since(start); got != time.Millisecond {
			t.Errorf("when a connection has ended, it waits %v", got)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		b.wait(ctx, nil)
		if got := time.Since(start); got != 2*time.Millisecond {
			t.Errorf("when the context is done, it waits %v", got)
		}
	})
}
