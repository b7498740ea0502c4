package main

import (
	"bytes"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strings"
	"testing"
)

const before = `package p

import "io"

const C = 1

var V error

func F(n int, more ...string) error { return nil }

func G[T any](t T, f func(x, y int)) {}

type I interface {
	io.Reader
	M(x int)
}

type Closed interface {
	M()
	m()
}

type A = interface{ M() }

type S struct {
	X int
	inner
	u int
}

type inner struct{ Y int }

func (inner) Promoted() {}

func (S) ByValue() {}

func (*S) ByPointer() {}

type E int

type Ch <-chan chan int

func Tail() {}
`

var importing = importer.Default()

func factsOf(t *testing.T, source string) facts {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	conf := types.Config{Importer: importing}
	pkg, err := conf.Check("p", fset, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := make(facts)
	f.describe(pkg, "p")
	return f
}

func TestWhatIsExported(t *testing.T) {
	want := []string{
		"p: alias A = interface { M() }",
		"p: const C = untyped int",
		"p: field S.X = int",
		"p: field S.Y = int",
		"p: func F = func(int, ...string) error",
		"p: func G = func[T any](T, func(int, int))",
		"p: func Tail = func()",
		"p: method (*S) ByPointer = func()",
		"p: method (Closed) M = func()",
		"p: method (S) ByValue = func()",
		"p: method (S) Promoted = func()",
		"p: type Ch = <-chan (chan int)",
		"p: type Closed = interface that others cannot implement",
		"p: type E = int",
		"p: type I = interface { M(int); Read([]byte) (int, error) }",
		"p: type S = comparable struct",
		"p: var V = error",
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(factsOf(t, before))); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestChanges(t *testing.T) {
	tests := []struct {
		name, old, new string
		want           string // what is printed; nothing if it is compatible
	}{
		{"nothing", "", "", ""},
		{"a function is removed", "func Tail() {}", "", "- p: func Tail = func()\n"},
		{"a signature changes", "F(n int,", "F(n int64,", "- p: func F = func(int, ...string) error\n+ p: func F = func(int64, ...string) error\n"},
		{"one result more", ") error { return nil }", ") (int, error) { return 0, nil }", "- p: func F = func(int, ...string) error\n+ p: func F = func(int, ...string) (int, error)\n"},
		{"a parameter is named otherwise", "F(n int,", "F(count int,", ""},
		{"one in a parameter, too", "f func(x, y int)", "g func(a, b int)", ""},
		{"a method more in an interface", "M(x int)", "M(x int)\n\tN()", "- p: type I = interface { M(int); Read([]byte) (int, error) }\n+ p: type I = interface { M(int); N(); Read([]byte) (int, error) }\n"},
		{"one in an alias", "type A = interface{ M() }", "type A = interface{ M(); N() }", "- p: alias A = interface { M() }\n+ p: alias A = interface { M(); N() }\n"},
		{"one in an interface that others cannot implement", "M()\n\tm()", "M()\n\tN()\n\tm()", ""},
		{"a method less in that", "M()\n\tm()", "m()", "- p: method (Closed) M = func()\n"},
		{"a method moves to the pointer", "(S) ByValue", "(*S) ByValue", "- p: method (S) ByValue = func()\n"},
		{"a method that was promoted", "func (inner) Promoted() {}", "", "- p: method (S) Promoted = func()\n"},
		{"a field is removed", "X int\n", "", "- p: field S.X = int\n"},
		{"a field that was promoted", "{ Y int }", "{ y int }", "- p: field S.Y = int\n"},
		{"a struct can no longer be compared", "u int", "u []int", "- p: type S = comparable struct\n+ p: type S = struct\n"},
		{"a type is another", "type E int", "type E string", "- p: type E = int\n+ p: type E = string\n"},
		{"a type becomes an alias", "type E int", "type E = int", "- p: type E = int\n"},
		{"a variable is another", "V error", "V io.Reader", "- p: var V = error\n+ p: var V = io.Reader\n"},
		{"a constant gets a type", "C = 1", "C int = 1", "- p: const C = untyped int\n+ p: const C = int\n"},
		{"a value changes", "C = 1", "C = 2", ""},
		{"a function more", "func Tail() {}", "func Tail() {}\nfunc More() {}", ""},
		{"a method more", "func Tail() {}", "func Tail() {}\nfunc (S) More() {}", ""},
		{"a field more", "X int\n", "X int\n\tZ int\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			after := strings.Replace(before, tt.old, tt.new, 1)
			var out bytes.Buffer
			err := compare(&out, factsOf(t, before), factsOf(t, after))
			if got := out.String(); got != tt.want || (err != nil) != (tt.want != "") {
				t.Errorf("got %v and\n%s\nwant\n%s", err, got, tt.want)
			}
		})
	}
}

func TestCompareAllowsComparableStruct(t *testing.T) {
	var out bytes.Buffer
	if err := compare(&out, facts{"p: type S = struct": true}, facts{"p: type S = comparable struct": true}); err != nil {
		t.Errorf("%v: %s", err, &out)
	}
}
