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

	// ErrReport: the outcome could not be written by [Report].
	ErrReport = errors.New("outcome could not be reported")

	// ErrPanic: a stage or handler panicked; see [PanicError].
	ErrPanic = errors.New("panic")
)

// errUnwinding is how a connection has ended as long as nobody has said
// otherwise. Deferred functions see it while a panic passes them by.
var errUnwinding = fmt.Errorf("%w while the connection was served", ErrPanic)

// ErrorMark is what stands for a failed connection in place of its payload
// ([Save], if told so) or of its count ([Report]).
const ErrorMark = "ERROR"

// because is err, known to be of kind cause.
func because(cause, err error) error { return fmt.Errorf("%w: %w", cause, err) }
