package browser

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var screenshot = flag.String("screenshot", "", "take the README's picture into this `file`")

// patience is how long a test waits for what is due now.
const patience = 30 * time.Second

var (
	serverPath string
	chromium   string
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
			break
		}
	}
	dir, err := os.MkdirTemp("", "accio")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	serverPath = filepath.Join(dir, "server")
	if out, err := exec.Command("go", "build", "-C", "../..", "-race", "-o", serverPath, "./cmd/server").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// server is a server with an admin address, and the directory that it saves in.
type server struct {
	t    *testing.T
	port int
	url  string
	args []string
	stop func()
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// poll looks now and again whether ok, for as long as the tests have patience.
func poll(ok func() bool) bool {
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

func serve(t *testing.T, flags ...string) *server {
	t.Helper()
	if chromium == "" {
		t.Skip("no Chromium is installed")
	}
	s := &server{t: t, port: freePort(t)}
	admin := freePort(t)
	s.url = fmt.Sprintf("http://127.0.0.1:%d", admin)
	s.args = append([]string{strconv.Itoa(s.port), t.TempDir(), fmt.Sprintf("--admin=:%d", admin)}, flags...)
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

// start starts the program, which is ready then.
func (s *server) start() {
	s.t.Helper()
	cmd := exec.Command(serverPath, s.args...)
	var said strings.Builder
	cmd.Stderr = &said
	check(s.t, cmd.Start())
	s.stop = func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || said.Len() > 0 {
			s.t.Errorf("the server ended with %v, and said %q", err, said.String())
		}
	}
	if !poll(func() bool {
		resp, err := http.Get(s.url + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == 200
	}) {
		s.t.Fatal("the server is not ready")
	}
}

// connect connects a client from an address of this machine.
func (s *server) connect(from string) net.Conn {
	s.t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", s.port))
	check(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// begin begins an upload.
func (s *server) begin(from string) net.Conn {
	s.t.Helper()
	conn := s.connect(from)
	send(s.t, conn, "confirm-accio\r\nconfirm-accio-again\r\n\r\n")
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	check(t, err)
}

// finish ends an upload, and waits until it is saved.
func finish(t *testing.T, conn net.Conn) {
	t.Helper()
	check(t, conn.(*net.TCPConn).CloseWrite())
	_, err := io.ReadAll(conn)
	check(t, err)
}

// browser is a Chromium that has the page open.
type browser struct {
	t      *testing.T
	ctx    context.Context
	origin string

	mu     sync.Mutex
	asked  int      // requests of the page
	faults []string // what the page should not have done
}

// open opens the page. When the test ends, the page may have asked for nothing but what is
// of the server, and no error may have occurred in it.
func (s *server) open() *browser {
	t := s.t
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.WindowSize(1200, 900), chromedp.Flag("force-color-profile", "srgb"))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // it refuses to have one then
	}
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, origin: s.url}
	check(t, chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			b.mu.Lock()
			b.asked++
			b.mu.Unlock()
			if !strings.HasPrefix(e.Request.URL, s.url+"/") {
				b.fault("it asks for " + e.Request.URL)
			}
		case *runtime.EventExceptionThrown:
			b.fault("an exception: " + e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			b.fault(fmt.Sprintf("the console: %s", e.Type))
		case *page.EventJavascriptDialogOpening:
			b.fault("a dialog: " + e.Message)
		}
	}))
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.asked < 4 {
			t.Errorf("it has asked for %d things, fewer than it needs: nobody has looked", b.asked)
		}
		for _, f := range b.faults {
			t.Error(f)
		}
	})
	call(b, network.Enable, network.EnableParams{})
	call(b, runtime.Enable, cdp.Empty{})
	call(b, page.Enable, page.EnableParams{})
	b.run(chromedp.Navigate(s.url + "/"))
	b.becomes("the page is up to date", `document.getElementById("status").textContent`, "Ready")
	return b
}

func (b *browser) fault(f string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, f)
}

// get runs an action that has a value.
func get[T any](b *browser, a chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	check(b.t, err)
	return v
}

func (b *browser) run(a chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	get(b, a)
}

// call calls a command of the protocol that browsers are steered by.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	return get(b, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// eval is the value of an expression, as text.
func (b *browser) eval(expr string) string {
	b.t.Helper()
	return get(b, chromedp.Evaluate[string]("String("+expr+")"))
}

// scheme has the page be light or dark.
func (b *browser) scheme(s string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s}}})
}

// becomes waits until an expression has that value.
func (b *browser) becomes(what, expr, want string) {
	b.t.Helper()
	got := ""
	if !poll(func() bool { got = b.eval(expr); return got == want }) {
		b.t.Fatalf("waited in vain until %s: %s is %q, want %q", what, expr, got, want)
	}
}

// Of a row under way, by its number.
func cellOf(number, column int) string {
	return fmt.Sprintf(`document.querySelector('#connections tr[data-key="%d"]')?.cells[%d].textContent`, number, column)
}

const (
	columnStage = 2
	columnBytes = 3
	columnRate  = 4
	focused     = `(document.activeElement.id || document.activeElement.getAttribute("aria-label") || document.activeElement.tagName)`
	lastOutcome = `["number","peer","outcome"].map((_, i) => document.querySelector("#recent tbody tr").cells[i].textContent).join(" ").replace(/:\d+/, "")`
)

func TestRowsAppearMoveAndEnd(t *testing.T) {
	s := serve(t, "--follow")
	b := s.open()
	b.becomes("there is none", `document.getElementById("none").hidden`, "false")
	one := s.connect("127.0.0.1")
	b.becomes("it appears", cellOf(1, columnStage), "handshake")
	b.becomes("there is one", `document.getElementById("none").hidden`, "true")
	b.becomes("there is one", `document.getElementById("figure-in-flight").textContent`, "1")
	send(t, one, "confirm-accio\r\nconfirm-accio-again\r\n\r\n")
	b.becomes("it goes on", cellOf(1, columnStage), "transfer")
	send(t, one, strings.Repeat("x", 2048))
	b.becomes("bytes arrive", cellOf(1, columnBytes), "2.00 KiB")
	send(t, one, strings.Repeat("x", 1<<20))
	b.becomes("more arrive", cellOf(1, columnBytes), "1.00 MiB")
	if rate := b.eval(cellOf(1, columnRate)); !strings.HasSuffix(rate, "/s") {
		t.Errorf("its rate is %q", rate)
	}
	b.becomes("some are drawn", `document.querySelector("#connections polyline").getAttribute("points").split(" ").length > 2`, "true")

	// A second one stands above it, and the focus stays while it comes.
	link := `"Follow upload 1 while it arrives"`
	b.becomes("it can be followed", `!!document.querySelector('a[aria-label=`+link+`]:not([hidden])')`, "true")
	b.eval(`document.querySelector('a[aria-label=` + link + `]').focus()`)
	two := s.begin("127.0.0.2")
	send(t, two, "hello")
	b.becomes("both are there", `Array.from(document.querySelectorAll("#connections tbody th"), (e) => e.textContent).join()`, "2,1")
	b.becomes("the focus stays", focused, strings.Trim(link, `"`))

	// What can be followed is a file to be kept.
	resp, err := http.Get(s.url + b.eval(`document.activeElement.getAttribute("href")`))
	check(t, err)
	defer resp.Body.Close()
	finish(t, one)
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 2048+1<<20 {
		t.Errorf("%d bytes were followed, %v", len(body), err)
	}
	b.becomes("it ends", cellOf(1, columnStage), "undefined")
	b.becomes("it is remembered", lastOutcome, "1 127.0.0.1 received")
	// Its link has gone, and the focus is somewhere near. The row above is not asked.
	b.becomes("the focus is not lost", focused, "in-flight")
	b.becomes("it is told", `document.getElementById("news").textContent`, "Ended: 1 received")
	two.(*net.TCPConn).SetLinger(0)
	two.Close()
	b.becomes("the other ends", lastOutcome, "2 127.0.0.2 reset")
	b.becomes("none is left", `document.querySelectorAll("#connections tbody tr").length`, "0")
	b.becomes("totals", `document.querySelector('#outcomes tr[data-key="reset"] td').textContent`, "1")
}

func TestHostileBytesDoNoHarm(t *testing.T) {
	s := serve(t)
	b := s.open()
	for _, said := range []string{
		`<img src=x onerror="window.harmed=1"><script>window.harmed=1</script>`,
		`</td></tr></table><svg onload="window.harmed=1">`,
		"\"}]}\n\ndata: {\"harmed\":1}\n\n",
		"javascript:window.harmed=1//\u202e\u0000\x1b[31m\xff\xfe",
		strings.Repeat("<b>", 10000),
	} {
		conn := s.connect("127.0.0.1")
		io.WriteString(conn, said) // it may be cut off in the middle
		io.ReadAll(conn)
		conn.Close()
	}
	b.becomes("all have ended", `document.querySelectorAll("#recent tbody tr").length`, "5")
	if cause := b.eval(`Array.from(document.querySelectorAll("td.cause"), (e) => e.textContent).join("\n")`); !strings.Contains(cause, `<img src=x`) {
		t.Errorf("what they said is not shown: %q", cause)
	}
	if found := b.eval(`document.querySelectorAll("main img, main script, main b, main svg:not(.plot)").length + " " + window.harmed`); found != "0 undefined" {
		t.Errorf("it has become a part of the page: %s", found)
	}
	// Even if it had, nothing of it would run.
	if got := b.eval(`(() => { try { document.body.innerHTML += "<img src=x onerror='window.harmed=1'>"; return "done" } catch { return "refused" } })()`); got != "refused" {
		t.Errorf("markup out of text: %s", got)
	}
	if got := b.eval("window.harmed"); got != "undefined" {
		t.Error("the page's policy allows what it should not")
	}
	conn := s.begin("127.0.0.1")
	send(t, conn, "well")
	finish(t, conn)
	b.becomes("the page goes on", lastOutcome, "6 127.0.0.1 received")
}

func TestKeyboardAndScreenReader(t *testing.T) {
	s := serve(t, "--follow")
	conn := s.begin("127.0.0.1")
	send(t, conn, "hello")
	b := s.open()
	b.becomes("it can be followed", `!!document.querySelector("#connections a:not([hidden])")`, "true")
	var way []string
	for range 6 {
		b.run(chromedp.KeyEvent(kb.Tab))
		way = append(way, b.eval(focused))
		if way[len(way)-1] != "BODY" && b.eval(`getComputedStyle(document.activeElement).outlineStyle`) == "none" {
			t.Errorf("nobody sees the focus at %s", way[len(way)-1])
		}
	}
	if got, want := strings.Join(way, ", "), "A, pause, DIV, Follow upload 1 while it arrives, DIV, BODY"; got != want {
		t.Errorf("the way of the focus is %s; want %s", got, want)
	}

	b.eval(`document.getElementById("pause").focus()`)
	b.run(chromedp.KeyEvent(" "))
	b.becomes("it pauses", `document.getElementById("pause").getAttribute("aria-pressed") + document.getElementById("status").textContent`, "truePaused")
	another := s.begin("127.0.0.2")
	send(t, another, "x")
	// It has come to the page, and is not shown.
	b.becomes("it is known", `state.in_flight`, "2")
	if n := b.eval(`document.querySelectorAll("#connections tbody tr").length`); n != "1" {
		t.Errorf("a page that pauses shows %s rows", n)
	}
	b.run(chromedp.KeyEvent(kb.Enter))
	b.becomes("it goes on", `document.querySelectorAll("#connections tbody tr").length`, "2")

	tree := call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes
	has := map[string]bool{}
	for _, n := range tree {
		if n.Ignored || n.Role == nil || n.Name == nil {
			continue
		}
		has[strings.Trim(string(n.Role.Value), `"`)+" "+strings.Trim(string(n.Name.Value), `"`)] = true
	}
	for _, want := range []string{
		"heading In flight", "heading Recent outcomes", "button Pause updates", "region In flight", "region Recent outcomes",
		"columnheader Rate", "columnheader Outcome", "rowheader 1", "rowheader 2", "cell transfer", "link Follow upload 1 while it arrives",
		"link Skip to the connections",
	} {
		if !has[want] {
			t.Errorf("a screen reader has no %q", want)
		}
	}
	finish(t, conn)
	finish(t, another)
}

func TestLightAndDark(t *testing.T) {
	s := serve(t)
	b := s.open()
	grounds := map[string]bool{}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		grounds[b.eval(`getComputedStyle(document.body).backgroundColor`)] = true
		// The ratio of WCAG 2.2, 1.4.3, of every colour that text has to every ground.
		least := get(b, chromedp.Evaluate[float64](`(() => {
			const style = getComputedStyle(document.documentElement);
			const luminance = (name) => {
				const hex = style.getPropertyValue(name).trim();
				const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
					.map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
				return 0.2126 * r + 0.7152 * g + 0.0722 * b;
			};
			let least = 21;
			for (const ground of ["--ground", "--panel"])
				for (const text of ["--text", "--quiet", "--accent", "--good", "--bad"]) {
					const [a, b] = [luminance(ground), luminance(text)].sort((a, b) => b - a);
					least = Math.min(least, (a + 0.05) / (b + 0.05));
				}
			return least;
		})()`))
		if least < 4.5 {
			t.Errorf("%s: a contrast is %.2f, less than 4.5", scheme, least)
		}
	}
	if len(grounds) != 2 {
		t.Errorf("light and dark have the grounds %v", grounds)
	}
}

// width has the window be so wide.
func (b *browser) width(pixels int64) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: pixels, Height: 900, DeviceScaleFactor: 1})
	b.becomes("the window is so wide", "innerWidth", strconv.FormatInt(pixels, 10))
}

// Tables that are too wide are scrolled by themselves, and nothing runs out of its card, however
// many places the server has and whatever is wrong with it.
func TestNarrowAndWide(t *testing.T) {
	s := serve(t, "--follow", "--max-conns-per-ip=1000000")
	conn := s.begin("127.0.0.1")
	send(t, conn, "hello")
	long := s.connect("127.0.0.66")
	io.WriteString(long, "GET /"+strings.Repeat("x", 500)+" HTTP/1.1\r\n")
	io.ReadAll(long)
	b := s.open()
	b.becomes("it can be followed", `!!document.querySelector("#connections a:not([hidden])")`, "true")
	b.becomes("one has failed", `document.querySelectorAll("#recent tbody tr").length`, "1")
	for _, pixels := range []int64{320, 400, 768, 1100, 1920} {
		b.width(pixels)
		for _, slots := range []int{0, 6644, 1048570} {
			// At once, since the next state comes soon.
			out := b.eval(fmt.Sprintf(`(() => {
				show({...state, slots: %[1]d, slots_free: Math.max(%[1]d - 2, 0), ready: false, unready: "/srv".repeat(75)});
				const all = document.documentElement;
				return Array.from(document.querySelectorAll("#figures div, #figures dd"))
					.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.textContent)
					.concat(all.scrollWidth > innerWidth ? ["the page: " + all.scrollWidth] : []);
			})()`, slots))
			if out != "" {
				t.Errorf("%d pixels, %d places: too wide are %s", pixels, slots, out)
			}
		}
	}
	finish(t, conn)
}

func TestAServerThatIsGoneAndComesBack(t *testing.T) {
	s := serve(t)
	conn := s.begin("127.0.0.1")
	b := s.open()
	b.becomes("it is there", cellOf(1, columnStage), "transfer")
	s.stop()
	conn.Close()
	b.becomes("it is told", `document.getElementById("status").textContent.includes("does not answer")`, "true")
	s.start()
	b.becomes("it is up to date again", `document.getElementById("status").textContent`, "Ready")
	b.becomes("what was before is not there", cellOf(1, columnStage), "undefined")
	b.becomes("nor its outcome", `document.querySelectorAll("#recent tbody tr").length`, "0")
}

// TestScreenshot takes the picture of a server with something to do.
func TestScreenshot(t *testing.T) {
	if *screenshot == "" {
		t.Skip("no picture is asked for")
	}
	s := serve(t, "--follow", "--max-size=512MiB", "--max-conns=100", "--min-free=1GiB", "--drain=1m")
	b := s.open()
	for i, text := range []string{"a report", strings.Repeat("x", 5<<20), "", strings.Repeat("y", 300<<10)} {
		conn := s.begin(fmt.Sprintf("127.0.0.%d", 11+i))
		send(t, conn, text)
		finish(t, conn)
	}
	conn := s.connect("127.0.0.66")
	io.WriteString(conn, "GET / HTTP/1.1\r\n<script>alert(1)</script>")
	io.ReadAll(conn)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	for i, rate := range []func(second float64) float64{
		func(float64) float64 { return 3 << 20 },
		func(s float64) float64 { return (1 + s/6) * (1 << 18) },
		func(s float64) float64 { return float64(int(s)/4%2) * (5 << 20) },
		func(s float64) float64 { return (8 - s/5) * (1 << 20) },
	} {
		conn := s.begin(fmt.Sprintf("127.0.0.%d", 21+i))
		clients.Go(func() {
			begun := time.Now()
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					conn.(*net.TCPConn).SetLinger(0)
					conn.Close()
					return
				case <-tick.C:
					if _, err := conn.Write(make([]byte, int(max(rate(time.Since(begun).Seconds()), 1)/20))); err != nil && !errors.Is(err, net.ErrClosed) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	b.becomes("there is something to draw", `Math.max(...Array.from(document.querySelectorAll("#connections polyline"), (e) => e.getAttribute("points").split(" ").length)) >= 25`, "true")
	last := s.connect("127.0.0.30")
	send(t, last, "confirm-accio\r\n")
	b.becomes("one more is there", `document.querySelectorAll("#connections tbody tr").length`, "5")
	b.scheme("light")
	size := emulation.SetDeviceMetricsOverrideParams{Width: 1120, Height: 900, DeviceScaleFactor: 1}
	call(b, emulation.SetDeviceMetricsOverride, size)
	size.Height = get(b, chromedp.Evaluate[int64](`document.documentElement.scrollHeight`)) // which the width has changed
	call(b, emulation.SetDeviceMetricsOverride, size)
	png := get(b, chromedp.CaptureScreenshot())
	check(t, os.WriteFile(*screenshot, png, 0o666))
}
