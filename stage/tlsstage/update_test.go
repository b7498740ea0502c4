package tlsstage

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// updates is a client that asks for new keys again and again (RFC 8446, section 4.6.3), by
// records of its own making, and reads none of the answers. keys is its KeyLogWriter.
func updates(keys *bytes.Buffer) func(c *tls.Conn, nc net.Conn) error {
	return func(c *tls.Conn, nc net.Conn) error {
		if err := c.Handshake(); err != nil {
			return err
		}
		if suite := c.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
			return errors.New("an unexpected cipher suite: " + tls.CipherSuiteName(suite))
		}
		nc.(memnet.Conn).SetReadBuffer(1)
		var secret []byte
		for line := range strings.Lines(keys.String()) {
			if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
				secret, _ = hex.DecodeString(f[2])
			}
		}
		for {
			if _, err := nc.Write(keyUpdate(secret)); err != nil {
				return nil // the server has ended it
			}
			secret = expand(secret, "traffic upd", sha256.Size)
		}
	}
}

// keyUpdate is the first record under secret, an update_requested.
func keyUpdate(secret []byte) []byte {
	block, _ := aes.NewCipher(expand(secret, "key", 16))
	aead, _ := cipher.NewGCM(block)
	header := []byte{23, 3, 3, 0, 6 + 16}
	inner := []byte{24, 0, 0, 1, 1, 22} // KeyUpdate, and the type of the record
	return aead.Seal(header, expand(secret, "iv", 12), inner, header)
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
func expand(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(append(append(info, byte(len(label))), label...), 0)
	out, err := hkdf.Expand(sha256.New, secret, string(info), n)
	if err != nil {
		panic(err)
	}
	return out
}

// What TLS writes within a read is bound by the limits of time, on either side, and the
// cause is that of the write.
func TestKeyUpdatesOfAClientThatDoesNotListen(t *testing.T) {
	server, client := newAuthority(t).configs(t)
	server = server.Clone()
	server.SessionTicketsDisabled = true // one that nobody takes would be in the way
	const limit = 10 * time.Second
	for _, tt := range []struct {
		name  string
		chain func(tls stage.Stage) stage.Chain
		err   error
		after time.Duration
	}{
		{"Idle outside", func(s stage.Stage) stage.Chain { return stage.Chain{stage.Idle{Limit: limit}, s} }, stage.ErrIdle, limit},
		{"Idle inside", func(s stage.Stage) stage.Chain { return stage.Chain{s, stage.Idle{Limit: limit}} }, stage.ErrIdle, limit},
		{"MaxDuration outside", func(s stage.Stage) stage.Chain { return stage.Chain{stage.MaxDuration{Limit: limit}, s} }, stage.ErrTooLong, limit},
		{"MaxDuration inside", func(s stage.Stage) stage.Chain { return stage.Chain{s, stage.MaxDuration{Limit: limit}} }, stage.ErrTooLong, limit},
		{"a shutdown", func(s stage.Stage) stage.Chain { return stage.Chain{s} }, stage.ErrShutdown, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := memnet.Pair()
				config, keys := client.Clone(), new(bytes.Buffer)
				config.KeyLogWriter = keys
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start := time.Now()
				done := play(t, c, config, updates(keys))
				err := stage.Serve(ctx, s, 1, tt.chain(TLS{Config: server, Limit: time.Second}).Then(stage.Receive))
				// Part of an answer has been taken, and starts Idle's limit anew.
				if took := time.Since(start); took < tt.after || took > 2*tt.after+time.Second {
					t.Errorf("ended after %v, want %v", took, tt.after)
				}
				if !errors.Is(err, tt.err) || errors.Is(err, stage.ErrProtocol) {
					t.Errorf("ended with %v, want %v", err, tt.err)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
