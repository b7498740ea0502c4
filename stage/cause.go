package stage

import (
	"errors"
	"fmt"
)

// Causes of the end of a connection. A chain returns nil for a connection that ended as it
// should, and otherwise an error that wraps one of these. errors.Is and errors.As also find
// the error beneath, such as a syscall.Errno.
var (
	// ErrIdle: the client sent nothing for longer than [Idle] allows.
	ErrIdle = errors.New("peer is silent")

	// ErrProtocol: the client sent something that is not part of the protocol.
	ErrProtocol = errors.New("peer does not follow the protocol")

	// ErrReset: the connection broke: the client reset it, or can no longer be reached.
	ErrReset = errors.New("connection broke")

	// ErrShutdown: the context of the connection was cancelled.
	ErrShutdown = errors.New("stopped")

	// ErrStorage: the payload could not be stored.
	ErrStorage = errors.New("could not be stored")

	// ErrConflict: the name of the payload is taken, in a store that replaces nothing. The
	// store works: this is no ErrStorage.
	ErrConflict = errors.New("conflicts with what is there")

	// ErrRejected: the store has examined the payload and refused it; see [Rejection].
	ErrRejected = errors.New("was rejected")

	// ErrReport: the outcome could not be written by [Report].
	ErrReport = errors.New("outcome could not be reported")

	// ErrPanic: a stage or handler panicked; see [PanicError].
	ErrPanic = errors.New("panic")
)

// ErrLimit: a connection reached a limit that the operator has set. The following errors are
// ErrLimit as well, each with a cause of its own.
var (
	ErrLimit = errors.New("limit reached")

	// ErrTooLarge: the payload is larger than [MaxSize] allows.
	ErrTooLarge error = &limitError{"payload is too large"}

	// ErrTooLong: the connection lasted longer than [MaxDuration] allows.
	ErrTooLong error = &limitError{"connection lasted too long"}

	// ErrTooSlow: the client sent less than [MinRate] requires.
	ErrTooSlow error = &limitError{"peer is too slow"}

	// ErrSlowHandshake: the client did not complete the handshake within the Limit of
	// [Handshake].
	ErrSlowHandshake error = &limitError{"handshake took too long"}

	// ErrTooMany: the client's host has as many connections as [MaxPerHost] allows.
	ErrTooMany error = &limitError{"host has too many connections"}

	// ErrNoSpace: the payload would take space that [MinFree] keeps free.
	ErrNoSpace error = &limitError{"no space is left for the payload"}
)

// limitError is a cause that is an ErrLimit, too.
type limitError struct{ text string }

func (e *limitError) Error() string        { return e.text }
func (e *limitError) Is(target error) bool { return target == ErrLimit }

// errUnwinding is the error of a connection while a panic passes through its
// stages.
var errUnwinding = fmt.Errorf("%w while the connection was served", ErrPanic)

// ErrorMark stands for a failed connection in place of its payload (the Mark of [Save]) or of
// its count ([Report]).
const ErrorMark = "ERROR"

// because returns err as an error of kind cause.
func because(cause, err error) error { return fmt.Errorf("%w: %w", cause, err) }
