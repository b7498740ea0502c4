// Package stagetest finds out whether a stage keeps the rules of package stage, which
// whoever puts it into a chain relies on:
//
//	func TestMyStage(t *testing.T) {
//		stagetest.TestStage(t, stagetest.Subject{
//			New: func(testing.TB) stagetest.Instance {
//				return stagetest.Instance{Stage: MyStage{Greeting: "welcome\n"}}
//			},
//			Before:   memnet.Peer{memnet.Hear("welcome\n")},
//			ZeroCopy: true,
//		})
//	}
//
// What the stage is for is not asked: that is a matter of its own tests, for which
// package memnet has connections in memory and peers that keep to a script.
package stagetest
