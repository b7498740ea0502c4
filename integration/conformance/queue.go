package conformance

import "errors"

// fullQueue returns a port at which connections are neither accepted nor refused,
// as long as the trial goes on.
func (t *trial) fullQueue() int {
	port, empty, err := FillQueue("127.0.0.1:0")
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		t.skip(err.Error())
	case err != nil:
		t.cannot("listening", err)
	default:
		t.later(empty)
	}
	return port
}
