package socket

import "syscall"

// Op is a system call on a descriptor that does not block: EAGAIN means that it would
// wait. It must not keep the descriptor.
type Op = func(fd int) (n int, err error)

// Call is an [Op] to be called any number of times, by one goroutine. A syscall.RawConn
// takes a function without results, and a closure for each call would allocate.
type Call struct {
	try func(fd uintptr) bool
	n   int
	err error
}

// NewCall returns a Call of op.
func NewCall(op Op) *Call {
	c := new(Call)
	c.try = func(fd uintptr) bool {
		c.n, c.err = op(int(fd))
		return c.err != syscall.EAGAIN
	}
	return c
}

// results returns the results of the Op, or err, of the raw connection.
func (c *Call) results(err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return c.n, c.err
}

// Descriptor makes calls on an open file, and waits in the poller of the runtime where an
// Op would block.
type Descriptor struct{ Raw syscall.RawConn }

// ReadRaw makes c until its Op returns another error than EAGAIN, and returns the results.
func (d Descriptor) ReadRaw(c *Call) (int, error) { return c.results(d.Raw.Read(c.try)) }

// WriteRaw does the same where the Op waits for room.
func (d Descriptor) WriteRaw(c *Call) (int, error) { return c.results(d.Raw.Write(c.try)) }

// Control makes c once.
func (d Descriptor) Control(c *Call) (int, error) {
	return c.results(d.Raw.Control(func(fd uintptr) { c.try(fd) }))
}
