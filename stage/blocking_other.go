//go:build !linux

package stage

// blocking is never, where the poller of the runtime does not wake for what nobody waits for.
type blocking struct{}

func (*blocking) end() {}
func (*Conn) rejoin()  {}
