package stage

import (
	"io"
	"testing"
)

func TestSendLetsTheKernelMoveAFile(t *testing.T) {
	payload := noise(2*transferSize, 15)
	used := usedBuffers(t)
	conn, server := tcpPair(t)
	got := make(chan []byte, 1)
	go func() {
		defer server.Close()
		if err := shakes(server); err != nil {
			t.Error(err)
		}
		b, err := io.ReadAll(server)
		if err != nil {
			t.Error(err)
		}
		got <- b
	}()
	n, err := testSender().Send(t.Context(), conn, sources["a file"](t, payload))
	if n != int64(len(payload)) || err != nil {
		t.Errorf("sent %d, %v", n, err)
	}
	sameBytes(t, <-got, payload)
	if used() != 0 {
		t.Errorf("%d buffers were used", used())
	}
	checkPipes(t)
}
