package stage

// The words of the Accio protocol: the server greets, the client confirms, the
// server greets again, the client confirms again, and the payload follows.
const (
	AccioGreeting     = "accio\r\n"
	AccioConfirm      = "confirm-accio\r\n"
	AccioConfirmAgain = "confirm-accio-again\r\n\r\n"
)

// Accio is the server's half of the Accio protocol's handshake. The client's
// half is Accio.Mirror(). Treat it as a constant.
var Accio = Script{
	Steps: []Step{
		Send(AccioGreeting), Expect(AccioConfirm),
		Send(AccioGreeting), Expect(AccioConfirmAgain),
	},
	AllowEnd: true,
}
