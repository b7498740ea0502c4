package decompress_test

import (
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/accio-go/accio/stage/decompress"
	"github.com/accio-go/accio/stage/stagetest"
)

func TestDecompressRules(t *testing.T) {
	plain := bytes.Repeat([]byte("a payload of many equal lines\n"), 150)
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	w.Write(plain)
	w.Close()
	stagetest.TestStage(t, stagetest.Subject{
		New: func(testing.TB) stagetest.Instance {
			return stagetest.Instance{Stage: decompress.Decompress{Open: decompress.Gzip}}
		},
		Payload: compressed.Bytes(),
		Want:    plain,
	})
}
