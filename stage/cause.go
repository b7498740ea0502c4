package stage

import (
	"errors"
	"fmt"
)

// Why a connection ended. A chain returns nil for a connection that ended as it
// should, and otherwise an error that is one of these for errors.Is, with what
// lies beneath (a syscall.Errno, say) within reach of errors.Is and errors.As.
// The one place where each is decided is where it happens: no error's text or
// operation is ever read to tell them apart.
var (
	// ErrIdle: the peer sent nothing for longer than [Idle] allows.
	ErrIdle = errors.New("peer is silent")

	// ErrProtocol: the peer sent something that the protocol does not have.
	ErrProtocol = errors.New("peer does not follow the protocol")

	// ErrReset: the connection broke: the peer reset it, or it cannot be
	// reached any longer.
	ErrReset = errors.New("connection broke")

	// ErrShutdown: the context of the connection was cancelled.
	ErrShutdown = errors.New("stopped")

	// ErrStorage: what was received could not be stored.
	ErrStorage = errors.New("could not be stored")

	// ErrConflict: the name of what was received is taken, in a store that replaces
	// nothing. The store is well: this is no ErrStorage.
	ErrConflict = errors.New("conflicts with what is there")

	// ErrRejected: what was received has been looked at and refused; see [Rejection].
	ErrRejected = errors.New("was rejected")

	// ErrReport: the outcome could not be written by [Report].
	ErrReport = errors.New("outcome could not be reported")

	// ErrPanic: a stage or handler panicked; see [PanicError].
	ErrPanic = errors.New("panic")
)

// ErrLimit: a connection reached a limit that whoever runs the server has set. It
// is what all of these are as well, each of which is a cause of its own.
var (
	ErrLimit = errors.New("limit reached")

	// ErrTooLarge: the payload is larger than [MaxSize] allows.
	ErrTooLarge error = &limitError{"payload is too large"}

	// ErrTooLong: the connection lasted longer than [MaxDuration] allows.
	ErrTooLong error = &limitError{"connection lasted too long"}

	// ErrTooSlow: the peer sent less in a time than [MinRate] asks for.
	ErrTooSlow error = &limitError{"peer is too slow"}

	// ErrSlowHandshake: the peer did not complete the handshake within the
	// Limit of [Handshake].
	ErrSlowHandshake error = &limitError{"handshake took too long"}

	// ErrTooMany: the peer's host has as many connections as [MaxPerHost]
	// allows.
	ErrTooMany error = &limitError{"host has too many connections"}

	// ErrNoSpace: the payload would take space that [MinFree] leaves alone.
	ErrNoSpace error = &limitError{"no space is left for the payload"}
)

// limitError is a cause that is an ErrLimit, too.
type limitError struct{ text string }

func (e *limitError) Error() string        { return e.text }
func (e *limitError) Is(target error) bool { return target == ErrLimit }

// errUnwinding is how a connection has ended as long as nobody has said
// otherwise. Deferred functions see it while a panic passes them by.
var errUnwinding = fmt.Errorf("%w while the connection was served", ErrPanic)

// ErrorMark is what stands for a failed connection in place of its payload
// ([Save], if told so) or of its count ([Report]).
const ErrorMark = "ERROR"

// because is err, known to be of kind cause.
func because(cause, err error) error { return fmt.Errorf("%w: %w", cause, err) }
