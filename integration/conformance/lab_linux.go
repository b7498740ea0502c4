package conformance

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// netemQdisc is what the kernel does to everything that leaves either end of a
// lab's cable.
var netemQdisc = []string{"netem", "delay", "50ms", "10ms", "loss", "3%", "reorder", "25%", "50%"}

// lab is two network namespaces with a cable between them. The zero value is
// ready; the namespaces are made when they are needed first, and are gone when
// the lab is closed or this process has ended, however it has: they have no
// names, and no file keeps them.
type lab struct {
	once     sync.Once
	err      error
	kit, sut *namespace // where the kit's side is, and the program's
	wire     wire       // in place of the cable, where the kernel has no netem
	note     string     // which of them it is, if it is not the kernel's
}

const (
	kitAddress = "198.18.0.1" // of the block for benchmarks, RFC 2544
	sutAddress = "198.18.0.2"
)

// networks returns where a program is to be started and where its peer is to
// be, or why there can be no such place here; and what there is to say about it.
func (l *lab) networks(ctx context.Context) (sut, kit *network, note string, err error) {
	l.once.Do(func() { l.err = l.build(ctx, netemQdisc) })
	if l.err != nil {
		return nil, nil, "", l.err
	}
	return &network{enter: l.sut.do, host: kitAddress}, &network{enter: l.kit.do, host: sutAddress}, l.note, nil
}

func (l *lab) build(ctx context.Context, qdisc []string) (err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.kit, err = newNamespace(); err != nil {
		return fmt.Errorf("no network namespace can be made here (root may, or anybody by unshare -r): %w", err)
	}
	if l.sut, err = newNamespace(); err != nil {
		return fmt.Errorf("no network namespace can be made here (root may, or anybody by unshare -r): %w", err)
	}
	noNetem := l.cable(ctx, qdisc)
	if errors.Is(noNetem, exec.ErrNotFound) {
		return fmt.Errorf("iproute2 is not installed here: %w", noNetem)
	}
	if noNetem != nil {
		l.note = "over a wire of the kit's own, since netem cannot be had here: " + noNetem.Error()
		l.kit.run(ctx, "ip", "link", "delete", device) // and its other end, if there was one
		if err := l.wire.connect(device, l.kit, l.sut); err != nil {
			return fmt.Errorf("neither netem nor a wire of the kit's own can be had here: %w; %w", noNetem, err)
		}
	}
	for n, address := range map[*namespace]string{l.kit: kitAddress, l.sut: sutAddress} {
		for _, args := range [][]string{
			{"link", "set", "lo", "up"},
			{"address", "add", address + "/30", "dev", device},
			{"link", "set", device, "up"},
		} {
			if err := n.run(ctx, "ip", args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// device is the end of the cable, or of the wire, in either namespace.
const device = "cable"

// cable connects the namespaces by the kernel's own means.
func (l *lab) cable(ctx context.Context, qdisc []string) error {
	err := l.kit.run(ctx, "ip", "link", "add", device, "type", "veth", "peer", "name", device, "netns", fmt.Sprint(l.sut.id))
	for _, n := range []*namespace{l.kit, l.sut} {
		if err == nil {
			err = n.run(ctx, "tc", append([]string{"qdisc", "add", "dev", device, "root"}, qdisc...)...)
		}
	}
	return err
}

func (l *lab) close() {
	l.wire.close()
	for _, n := range []*namespace{l.kit, l.sut} {
		if n != nil {
			n.close()
		}
	}
	l.kit, l.sut = nil, nil
}

// namespace is a network namespace: one thread is in it. Sockets and processes
// that are made there stay there.
type namespace struct {
	*thread
	id int // of the thread
}

func newNamespace() (*namespace, error) {
	n := &namespace{}
	var err error
	if n.thread, err = newThread(func() error {
		n.id = syscall.Gettid()
		return syscall.Unshare(syscall.CLONE_NEWNET)
	}); err != nil {
		return nil, err
	}
	return n, nil
}

// run runs a command in the namespace.
func (n *namespace) run(ctx context.Context, command string, args ...string) error {
	return n.do(func() error {
		out, err := exec.CommandContext(ctx, command, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %s: %w: %s", command, args[0], err, strings.Join(strings.Fields(string(out)), " "))
		}
		return nil
	})
}
