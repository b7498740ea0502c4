package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	// maxFollowers bounds the followers at a time.
	maxFollowers = 8

	// followStall bounds the time in which a follower reads nothing.
	followStall = time.Minute
)

// serveFollow sends an upload while it arrives. Browsers save it and never show it. The
// response is complete only if the upload is.
func (s *Server) serveFollow(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.ParseUint(r.PathValue("number"), 10, 64)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	body, err := s.Follow(number)
	if errors.Is(err, os.ErrNotExist) {
		plain(w, http.StatusNotFound, fmt.Sprintf("nothing of upload %d has arrived, or it has ended", number))
		return
	}
	if err != nil {
		plain(w, http.StatusInternalServerError, err.Error())
		return
	}
	defer body.Close()
	defer context.AfterFunc(r.Context(), func() { body.Close() })()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", fmt.Sprintf("%d.file", number)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := io.CopyBuffer(promptWriter{w, http.NewResponseController(w)}, onlyReader{body}, make([]byte, 64<<10)); err != nil {
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	}
}

// promptWriter flushes each write, with a deadline.
type promptWriter struct {
	io.Writer
	control *http.ResponseController
}

func (w promptWriter) Write(p []byte) (int, error) {
	if err := w.control.SetWriteDeadline(time.Now().Add(followStall)); err != nil {
		return 0, err
	}
	n, err := w.Writer.Write(p)
	if err == nil {
		err = w.control.Flush()
	}
	return n, err
}

type onlyReader struct{ io.Reader }
