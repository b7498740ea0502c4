//go:build unix

// Command reference is the three programs, each as short as it can be while it
// does as it should, and with one classic mistake where it is told to make one:
//
//	reference server 5000 dir
//	reference server/writes-straight 5000 dir
//
// The tests of the conformance kit are about it.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	greeting  = "accio\r\n"
	confirm   = "confirm-accio\r\n"
	again     = "confirm-accio-again\r\n\r\n"
	errorMark = "ERROR"
	limit     = 10 * time.Second
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(complain("usage: PROGRAM[/MISTAKE] ARGUMENTS"))
	}
	program, mistake, _ := strings.Cut(os.Args[1], "/")
	args := os.Args[2:]
	switch {
	case program == "hold": // the child of a server that has children do its work
		b, _ := io.ReadAll(os.Stdin)
		os.Stdout.Write(b)
	case program == "client" && (len(args) == 3 || len(args) > 3 && mistake == "ignores-what-is-too-much"):
		c := client{mistake: mistake}
		err := c.run(args[0], args[1], args[2])
		if err != nil && mistake == "complains-vaguely" {
			err = errors.New("something went wrong")
		}
		if err != nil {
			os.Exit(complain(err))
		}
	case program == "server-s" && len(args) == 1, program == "server" && len(args) == 2:
		os.Exit(serve(program, mistake, args))
	default:
		os.Exit(complain("wrong arguments"))
	}
}

func complain(args ...any) int {
	fmt.Fprintln(os.Stderr, append([]any{"ERROR:"}, args...)...)
	return 1
}

func serve(program, mistake string, args []string) int {
	s := &server{counts: program == "server-s", mistake: mistake, conns: make(map[*net.TCPConn]bool)}
	port, err := strconv.Atoi(args[0])
	if err != nil || port < 1 || port > 65535 || args[0][0] == '+' {
		return complain("no port:", args[0])
	}
	host := "0.0.0.0"
	if mistake == "listens-on-loopback" {
		host = "127.0.0.1"
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if s.mistake != "dies-of-sigquit" {
		signal.Notify(signals, syscall.SIGQUIT)
	}
	var config net.ListenConfig
	if s.mistake == "waits-for-its-port" {
		config.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0) })
		}
	}
	ln, err := config.Listen(context.Background(), "tcp4", fmt.Sprintf("%s:%d", host, port))
	if err != nil {
		return complain(err)
	}
	if !s.counts { // not before: another server may listen there, and work in the directory
		s.dir = args[1]
		if err := s.prepare(); err != nil {
			return complain(err)
		}
	}
	return s.serve(ln, signals)
}

// server is a server-s or a server.
type server struct {
	counts  bool // and saves otherwise
	mistake string
	dir     string

	mu       sync.Mutex
	conns    map[*net.TCPConn]bool
	stopping bool
	accepted int
	ended    int // for those who number connections when they end
	work     sync.WaitGroup
	kept     bytes.Buffer // lines not printed yet, for those who keep them
}

func (s *server) prepare() error {
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return err
	}
	if s.mistake != "finds-out-too-late" {
		f, err := os.Create(filepath.Join(s.dir, ".0.part"))
		if err != nil {
			return err
		}
		f.Close()
	}
	left, err := filepath.Glob(filepath.Join(s.dir, ".*.part"))
	for _, name := range left {
		os.Remove(name)
	}
	return err
}

func (s *server) serve(ln net.Listener, signals <-chan os.Signal) int {
	broken := make(chan error, 1) // nobody reads stdout
	signal.Ignore(syscall.SIGPIPE)
	go s.accept(ln, broken)
	var sig os.Signal
	select {
	case err := <-broken:
		return complain(err)
	case sig = <-signals:
	}
	if s.mistake == "leaves-a-child" { // that listens as well, until somebody kills it
		child := exec.Command("sleep", "1000")
		if f, err := ln.(*net.TCPListener).File(); err == nil {
			child.ExtraFiles = append(child.ExtraFiles, f)
		}
		child.Start()
	}
	ln.Close()
	s.mu.Lock()
	s.stopping = true
	for c := range s.conns {
		if s.mistake != "stops-orderly" {
			c.SetLinger(0)
		}
		c.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
	os.Stdout.Write(s.kept.Bytes())
	if s.mistake == "sigterm-is-failure" && sig == syscall.SIGTERM {
		return 1
	}
	return 0
}

// places is how many connections there are descriptors for, with a file each.
func (s *server) places() int {
	if s.mistake == "has-places-for-few" {
		return 500
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 100
	}
	return max(1, (int(min(limit.Cur, 10_000))-20)/2)
}

func (s *server) accept(ln net.Listener, broken chan<- error) {
	turn := make(chan struct{}, 1)
	room := make(chan struct{}, s.places())
	for {
		room <- struct{}{}
		if s.counts && s.mistake != "drops-when-busy" {
			turn <- struct{}{}
		}
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			<-time.After(20 * time.Millisecond)
			<-room
			if s.counts && s.mistake != "drops-when-busy" {
				<-turn
			}
			continue
		}
		if s.mistake == "drops-when-busy" {
			select {
			case turn <- struct{}{}:
			default:
				conn.Close()
				<-room
				continue
			}
		}
		c := conn.(*net.TCPConn)
		s.mu.Lock()
		s.accepted++
		number := s.accepted
		s.conns[c] = true
		s.work.Add(1)
		s.mu.Unlock()
		serve := func() {
			defer s.work.Done()
			if err := s.connection(c, number); err != nil {
				select {
				case broken <- err:
				default:
				}
			}
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			<-room
			if s.counts {
				<-turn
			}
		}
		if s.mistake == "one-at-a-time" {
			serve()
		} else {
			go serve()
		}
	}
}

// patientReader gives up when nothing comes for ten seconds. The connection has
// a name, since a promoted WriteTo would go round Read.
type patientReader struct {
	conn    *net.TCPConn
	mistake string
}

func (r patientReader) Read(b []byte) (int, error) {
	if r.mistake != "waits-for-ever" && r.mistake != "ten-seconds-in-all" {
		r.conn.SetReadDeadline(time.Now().Add(limit))
	}
	return r.conn.Read(b)
}

var errWrong = errors.New("not what should come")

// connection serves one. The error is that the outcome cannot be told.
func (s *server) connection(c *net.TCPConn, n int) error {
	defer c.Close()
	if s.mistake == "ten-seconds-in-all" {
		c.SetReadDeadline(time.Now().Add(limit))
	}
	in := patientReader{c, s.mistake}
	err := s.handshake(c, in)
	early := err == io.EOF
	if s.mistake == "early-end-is-error" && early {
		err = errWrong
	} else if early {
		err = nil
	}
	if s.counts {
		count, cerr := int64(0), error(nil)
		if err == nil && !early {
			count, cerr = io.Copy(io.Discard, in)
		}
		if s.mistake == "counts-the-header" && !early {
			count += int64(len(confirm + again))
		}
		line := fmt.Sprintln(count)
		if err := errors.Join(err, cerr); err != nil {
			line = errorMark + "\n"
			s.away(c, err)
		}
		if s.mistake == "keeps-a-log" {
			os.WriteFile("server-s.log", []byte(line), 0o666)
		}
		info, serr := os.Stdout.Stat()
		if s.mistake == "keeps-its-output" || s.mistake == "keeps-its-output-from-files" && serr == nil && info.Mode().IsRegular() {
			s.kept.WriteString(line)
			return nil
		}
		_, err = os.Stdout.WriteString(line)
		return err
	}
	s.save(c, in, n, err, early)
	return nil
}

// away closes a connection that has failed as the README says.
func (s *server) away(c *net.TCPConn, err error) {
	if ne := net.Error(nil); s.mistake != "resets-the-silent" && errors.As(err, &ne) && ne.Timeout() {
		return
	}
	c.SetLinger(0)
}

func (s *server) handshake(c *net.TCPConn, in io.Reader) error {
	if s.mistake == "waits-for-the-client" {
		var b [1]byte
		in.Read(b[:])
		in = io.MultiReader(bytes.NewReader(b[:]), in)
	}
	words := greeting
	if s.mistake == "greets-twice-at-once" {
		words += greeting
	}
	c.Write([]byte(words))
	if err := s.expect(in, confirm); err != nil {
		return err
	}
	if s.mistake != "greets-twice-at-once" {
		c.Write([]byte(greeting))
	}
	return s.expect(in, again)
}

func (s *server) expect(in io.Reader, words string) error {
	var buf [1024]byte
	room := len(words)
	switch s.mistake {
	case "recv-is-a-message":
		n, err := in.Read(buf[:])
		if n > 0 && string(buf[:n]) != words {
			err = errWrong
		}
		return err
	case "reads-greedily":
		room = len(buf)
	}
	for n := 0; n < len(words); {
		m, err := in.Read(buf[n:room])
		n += m
		if seen := min(n, len(words)); string(buf[:seen]) != words[:seen] && s.mistake != "believes-any-header" {
			return errWrong
		}
		if err != nil && n < len(words) {
			return err
		}
	}
	return nil
}

func (s *server) save(c *net.TCPConn, in io.Reader, n int, err error, early bool) {
	final := func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended++
		if s.mistake == "numbers-by-completion" {
			n = s.ended
		}
		if s.mistake == "skips-failures" && err != nil {
			s.accepted-- // the next one gets the number
		}
		return filepath.Join(s.dir, fmt.Sprintf("%d.file", n))
	}
	part := filepath.Join(s.dir, fmt.Sprintf(".%d.part", n))
	mode := os.FileMode(0o666)
	switch s.mistake {
	case "writes-straight":
		part = filepath.Join(s.dir, fmt.Sprintf("%d.file", n))
	case "shows-its-temporary-files":
		part = filepath.Join(s.dir, fmt.Sprintf("%d.part", n))
	case "private-mode":
		mode = 0o600
	}
	f, oerr := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_RDWR, mode)
	if oerr != nil {
		complain(oerr)
		c.SetLinger(0)
		return
	}
	defer f.Close()
	var stored error
	if err == nil && !early {
		src := in
		switch s.mistake {
		case "translates-line-ends":
			b, rerr := io.ReadAll(in)
			src, err = bytes.NewReader(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))), rerr
		case "has-children-hold-it-all":
			child := exec.Command(os.Args[0], "hold")
			child.Stdin, child.Stdout = in, f
			child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			src, err = strings.NewReader(""), child.Run()
		case "writes-in-two-halves":
			b, rerr := io.ReadAll(in)
			if src, err = bytes.NewReader(b), rerr; err == nil {
				os.WriteFile(final(), b[:len(b)/2], mode)
				<-time.After(500 * time.Millisecond)
				err = os.WriteFile(final(), b, mode)
			}
		}
		if err == nil {
			_, err = io.Copy(f, src)
		}
		if pe := (*os.PathError)(nil); errors.As(err, &pe) {
			stored = err
		}
	}
	if s.mistake == "closes-before-saved" && err == nil {
		c.Close()
		<-time.After(100 * time.Millisecond)
	}
	if err != nil {
		if s.mistake != "keeps-a-part" {
			f.Truncate(0)
			f.Seek(0, io.SeekStart)
		}
		f.WriteString(errorMark)
		if s.mistake == "newline-after-error" {
			f.WriteString("\n")
		}
	}
	if stored != nil {
		complain(stored)
	}
	if name := final(); name != part {
		ne := net.Error(nil)
		if err == nil || s.mistake != "leaves-its-temporary-files" &&
			!(s.mistake == "leaves-what-the-silent-sent" && errors.As(err, &ne) && ne.Timeout()) {
			os.Rename(part, name)
		} else {
			os.Remove(name)
			os.WriteFile(name, []byte(errorMark), mode)
		}
	}
	if err != nil {
		s.away(c, err)
	}
}

// client is a client.
type client struct{ mistake string }

func (c *client) limit() time.Duration {
	if c.mistake == "is-impatient" {
		return 1500 * time.Millisecond
	}
	return limit
}

func (c *client) run(host, port, file string) error {
	in := os.Stdin
	if file != "-" || c.mistake == "knows-no-standard-input" {
		f, err := os.Open(file)
		if info, serr := os.Stat(file); c.mistake == "takes-what-is-missing-for-empty" && (err != nil || serr == nil && info.IsDir()) {
			f, err = os.Open(os.DevNull)
		}
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if info, err := in.Stat(); err != nil || info.IsDir() {
		return fmt.Errorf("cannot read %s: %v", file, err)
	}
	ctx, forget := context.Background(), func() {}
	switch c.mistake {
	case "leaves-signals-to-the-system":
	case "leaves-sigquit-to-the-system":
		ctx, forget = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	case "ignores-signals":
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	default:
		ctx, forget = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	}
	defer forget()
	dialer := net.Dialer{Timeout: c.limit()}
	if c.mistake == "connects-for-ever" {
		dialer.Timeout = 0
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	tcp := conn.(*net.TCPConn)
	stop := context.AfterFunc(ctx, func() { c.abort(tcp) })
	defer stop()
	if err := c.talk(tcp, in); err != nil {
		c.abort(tcp)
		return err
	}
	return tcp.Close()
}

// abort closes a connection such that nobody takes what was sent for the whole.
func (c *client) abort(conn *net.TCPConn) {
	if c.mistake != "aborts-in-order" {
		conn.SetLinger(0)
	}
	conn.Close()
}

func (c *client) talk(tcp *net.TCPConn, in io.Reader) error {
	if c.mistake != "leaves-much-to-the-system" {
		// What the system still has to send when all is written takes no time
		// that a slow server could not spare from the limit on its close.
		if err := tcp.SetWriteBuffer(128 << 10); err != nil {
			return err
		}
	}
	payload := in
	switch c.mistake {
	case "adds-a-newline":
		payload = io.MultiReader(in, strings.NewReader("\n"))
	case "reads-it-all":
		b, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(b)
	}
	first, second := confirm, again
	if c.mistake == "forgets-the-blank-line" {
		second = strings.TrimSuffix(again, "\r\n")
	}
	switch c.mistake {
	case "sends-before-the-greeting":
		tcp.Write([]byte(first))
		first = ""
	case "confirms-twice-at-once":
		first, second = first+second, ""
	}
	if err := c.listen(tcp); err != nil {
		return err
	}
	tcp.Write([]byte(first))
	if err := c.listen(tcp); err != nil {
		return err
	}
	if _, err := tcp.Write([]byte(second)); err != nil {
		return err
	}
	if err := c.send(tcp, payload); err != nil {
		return err
	}
	if c.mistake == "closes-at-once" {
		return nil
	}
	if err := tcp.CloseWrite(); err != nil {
		return err
	}
	return c.awaitClose(tcp)
}

// listen hears a greeting.
func (c *client) listen(conn *net.TCPConn) error {
	if c.mistake != "waits-for-ever" {
		conn.SetReadDeadline(time.Now().Add(c.limit()))
	}
	var b [len(greeting)]byte
	if c.mistake == "trusts-one-recv" {
		n, err := conn.Read(b[:])
		if err == nil && string(b[:n]) != greeting {
			err = errWrong
		}
		return err
	}
	for n := range b {
		if c.mistake == "has-ten-seconds-for-each-byte" {
			conn.SetReadDeadline(time.Now().Add(limit))
		}
		if _, err := conn.Read(b[n : n+1]); err != nil {
			return fmt.Errorf("no greeting: %w", err)
		}
	}
	if string(b[:]) != greeting && c.mistake != "believes-any-greeting" {
		return errWrong
	}
	return nil
}

func (c *client) send(conn *net.TCPConn, payload io.Reader) error {
	// The server has given up if it closes now.
	gone := make(chan error, 1)
	conn.SetReadDeadline(time.Time{})
	watched := c.mistake != "does-not-look-while-sending"
	if watched {
		go func() {
			var b [1]byte
			_, err := conn.Read(b[:])
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				err = nil
			} else {
				conn.SetWriteDeadline(time.Unix(1, 0))
			}
			gone <- err
		}()
	}
	buf := make([]byte, 64<<10)
	var err error
	for err == nil {
		var n int
		n, err = payload.Read(buf)
		if n > 0 {
			if c.mistake != "sends-for-ever" {
				conn.SetWriteDeadline(time.Now().Add(c.limit()))
			}
			if _, werr := conn.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
	}
	if watched {
		conn.SetReadDeadline(time.Unix(1, 0))
		if gerr := <-gone; gerr != nil {
			err = fmt.Errorf("the server has given up: %w", gerr)
			if gerr == io.EOF {
				err = errors.New("the server has given up")
			}
		}
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func (c *client) awaitClose(conn *net.TCPConn) error {
	conn.SetReadDeadline(time.Now().Add(c.limit()))
	if c.mistake == "awaits-the-close-for-ever" {
		conn.SetReadDeadline(time.Time{})
	}
	var b [1]byte
	_, err := conn.Read(b[:])
	switch {
	case err == io.EOF, c.mistake == "a-reset-is-success" && errors.Is(err, syscall.ECONNRESET):
		return nil
	case err == nil:
		return errors.New("the server talks")
	}
	return fmt.Errorf("not confirmed: %w", err)
}
