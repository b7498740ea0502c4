package conformance

import (
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// wire carries packets between two network namespaces, badly: what netem does in
// the kernel, for kernels that have no netem. At either end it is a TUN device
// (the kernel's Documentation/networking/tuntap.rst): what the kernel sends there
// is read here, and what is written here the kernel receives.
type wire struct {
	ends  [2]*os.File
	going sync.WaitGroup
}

const (
	wireDelay  = 50 * time.Millisecond
	wireJitter = 10 * time.Millisecond // more or less
	wireLoss   = 0.03

	// Packets that are delayed by different times overtake each other; some
	// more are not delayed at all.
	wireReorder = 0.25

	// wireQueue is how many packets are under way at the most, in either
	// direction: others are lost, as in netem.
	wireQueue = 1000
)

// connect makes the device called name in each of the namespaces.
func (w *wire) connect(name string, a, b *namespace) error {
	for i, n := range []*namespace{a, b} {
		err := n.do(func() (err error) {
			w.ends[i], err = tun(name)
			return err
		})
		if err != nil {
			w.close()
			return err
		}
	}
	w.going.Go(func() { w.carry(w.ends[0], w.ends[1]) })
	w.going.Go(func() { w.carry(w.ends[1], w.ends[0]) })
	return nil
}

// tun makes a TUN device in the namespace of the calling thread. It is gone when
// the file is closed.
func tun(name string) (*os.File, error) {
	const device = "/dev/net/tun"
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: device, Err: err}
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "TUNSETIFF", Path: device, Err: err}
	}
	return os.NewFile(uintptr(fd), device), nil
}

// carry moves packets until an end is closed.
func (w *wire) carry(from io.Reader, to io.Writer) {
	under := make(chan struct{}, wireQueue)
	var buf [1 << 16]byte
	for {
		n, err := from.Read(buf[:])
		if err != nil {
			return
		}
		if rand.Float64() < wireLoss {
			continue
		}
		select {
		case under <- struct{}{}:
		default:
			continue
		}
		after := wireDelay + rand.N(2*wireJitter) - wireJitter
		if rand.Float64() < wireReorder {
			after = 0
		}
		packet := append([]byte(nil), buf[:n]...)
		w.going.Add(1)
		time.AfterFunc(after, func() {
			defer w.going.Done()
			to.Write(packet) // or it is lost
			<-under
		})
	}
}

func (w *wire) close() {
	for _, end := range w.ends {
		if end != nil {
			end.Close()
		}
	}
	w.going.Wait()
}
