package proxyproto_test

import (
	"net/netip"
	"testing"

	"github.com/accio-go/accio/stage/proxyproto"
	"github.com/accio-go/accio/stage/stagetest"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

func TestProxyKeepsTheRules(t *testing.T) {
	stagetest.TestStage(t, stagetest.Subject{
		New: func(testing.TB) stagetest.Instance {
			return stagetest.Instance{Stage: proxyproto.Proxy{Trusted: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}}
		},
		Before:   memnet.Peer{memnet.Say("PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n")},
		ZeroCopy: true,
	})
}
