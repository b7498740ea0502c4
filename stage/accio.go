package stage

// The texts of the Accio protocol. The server greets and the client confirms, twice, and the
// payload follows.
const (
	accioGreeting     = "accio\r\n"
	accioConfirm      = "confirm-accio\r\n"
	accioConfirmAgain = "confirm-accio-again\r\n\r\n"
)

// Accio is the server's half of the handshake of the Accio protocol. The client's half is
// Accio.Mirror(). Do not change it.
var Accio = Script{
	Steps: []Step{
		{Send: accioGreeting}, {Expect: accioConfirm},
		{Send: accioGreeting}, {Expect: accioConfirmAgain},
	},
	AllowEnd: true,
}
