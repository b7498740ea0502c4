package zstd_test

import (
	"bytes"
	"testing"

	kzstd "github.com/klauspost/compress/zstd"

	"github.com/accio-go/accio/stage/decompress"
	"github.com/accio-go/accio/stage/decompress/zstd"
	"github.com/accio-go/accio/stage/stagetest"
)

func TestDecompressRules(t *testing.T) {
	plain := bytes.Repeat([]byte("what is compressed, and what it expands to; "), 100)
	w, err := kzstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	stagetest.TestStage(t, stagetest.Subject{
		New: func(testing.TB) stagetest.Instance {
			return stagetest.Instance{Stage: decompress.Decompress{Open: zstd.Open}}
		},
		Payload: w.EncodeAll(plain, nil),
		Want:    plain,
	})
}
