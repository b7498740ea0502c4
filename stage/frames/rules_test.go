package frames_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/accio-go/accio/stage/frames"
	"github.com/accio-go/accio/stage/stagetest"
)

func TestFramesRules(t *testing.T) {
	frame := make([]byte, 2<<20)
	for i := range frame {
		frame[i] = byte(i ^ i>>8 ^ i>>16)
	}
	stagetest.TestStage(t, stagetest.Subject{
		New: func(testing.TB) stagetest.Instance {
			return stagetest.Instance{Stage: frames.Frames{Split: frames.LengthPrefix(4, binary.BigEndian)}}
		},
		Payload:  slices.Concat(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame),
		Want:     frame,
		ZeroCopy: true,
	})
}
