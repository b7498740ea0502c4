// Api writes down what packages export, one fact a line: a line that no longer holds is
// a change that may break a user of theirs, and a line that is new is not.
//
//	go run main.go PATTERN...             prints the facts
//	go run main.go -since FILE PATTERN... names those of FILE that no longer hold, and
//	                                      fails if there are any
//
// It is strict: some lines are lost by changes that few would notice. Names of
// parameters, values of constants and what is unexported are no part of it, but
// whether a type can be compared is. Commands and internal packages are left out. What
// differs between systems is as on linux/amd64, so that the facts are the same wherever
// they are written.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	since := flag.String("since", "", "the `file` with the facts that are to hold")
	flag.Parse()
	if err := run(os.Stdout, *since, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, since string, patterns []string) error {
	now, err := load(patterns)
	if err != nil {
		return err
	}
	if since == "" {
		for _, fact := range slices.Sorted(maps.Keys(now)) {
			fmt.Fprintln(w, fact)
		}
		return nil
	}
	f, err := os.Open(since)
	if err != nil {
		return err
	}
	defer f.Close()
	before := make(facts)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before[lines.Text()] = true
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", since, err)
	}
	if len(before) == 0 {
		return fmt.Errorf("%s is empty", since)
	}
	return compare(w, before, now)
}

var errIncompatible = errors.New("what is exported is not what is recorded; if it is to be so, make api records it")

// compare prints what is lost, each with what there is of the same name instead.
func compare(w io.Writer, before, now facts) error {
	var err error
	for _, fact := range slices.Sorted(maps.Keys(before)) {
		if now[fact] || now[strings.Replace(fact, " = struct", " = "+comparable, 1)] {
			continue
		}
		err = errIncompatible
		fmt.Fprintln(w, "-", fact)
		for _, other := range slices.Sorted(maps.Keys(now)) {
			if !before[other] && subject(other) == subject(fact) {
				fmt.Fprintln(w, "+", other)
			}
		}
	}
	return err
}

// subject is what a fact is about: its package, kind and name.
func subject(fact string) string {
	name, _, _ := strings.Cut(fact, " = ")
	return name
}

// load returns the facts of all packages that match the patterns.
func load(patterns []string) (facts, error) {
	type listed struct {
		ImportPath, Name, Export string
		DepOnly                  bool
		Module                   struct{ Path string }
	}
	// The compiler's own data is read, which it has made for staticcheck already.
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Name,Export,Module,DepOnly", "--"}, patterns...)...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", cmd.Args, err)
	}
	exports := make(map[string]string)
	var roots []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		if !p.DepOnly && p.Name != "main" && !slices.Contains(strings.Split(p.ImportPath, "/"), "internal") {
			roots = append(roots, p)
		}
	}
	imports := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	all := make(facts)
	for _, p := range roots {
		pkg, err := imports.Import(p.ImportPath)
		if err != nil {
			return nil, err
		}
		all.describe(pkg, strings.TrimPrefix(p.ImportPath, p.Module.Path+"/"))
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("nothing is exported by %q", patterns)
	}
	return all, nil
}

// facts are lines such as "stage: func Copy = func(io.Writer, io.Reader) (int64, error)".
type facts map[string]bool

// describer adds the facts of a package.
type describer struct {
	facts
	pkg  *types.Package
	path string // within the module
}

func (d describer) add(subject, what string) {
	if what != "" {
		subject += " = " + what
	}
	d.facts[d.path+": "+subject] = true
}

// describe adds what a package exports; path is what the facts call it.
func (f facts) describe(pkg *types.Package, path string) {
	d := describer{f, pkg, path}
	scope := pkg.Scope()
	for _, name := range scope.Names() {
		if !token.IsExported(name) {
			continue
		}
		switch o := scope.Lookup(name).(type) {
		case *types.Const:
			d.add("const "+name, d.text(o.Type()))
		case *types.Var:
			d.add("var "+name, d.text(o.Type()))
		case *types.Func:
			d.add("func "+name, d.text(o.Type()))
		case *types.TypeName:
			d.typeName(o)
		}
	}
}

// comparable is a struct whose values can be compared. Of other types, the type itself says
// whether they can.
const comparable = "comparable struct"

func (d describer) typeName(o *types.TypeName) {
	name := o.Name()
	if o.IsAlias() {
		d.add("alias "+name, d.text(types.Unalias(o.Type())))
		return
	}
	t := o.Type().(*types.Named)
	subject := "type " + name + d.params(t.TypeParams())
	switch u := t.Underlying().(type) {
	case *types.Struct:
		if types.Comparable(t) {
			d.add(subject, comparable)
		} else {
			d.add(subject, "struct")
		}
		d.fields(name, u)
	case *types.Interface:
		d.interfaceType(subject, name, u)
		return // its methods are said
	default:
		d.add(subject, d.text(u))
	}
	byValue := types.NewMethodSet(t)
	for m := range types.NewMethodSet(types.NewPointer(t)).Methods() {
		if !m.Obj().Exported() {
			continue
		}
		receiver := "(*" + name + ") "
		if byValue.Lookup(d.pkg, m.Obj().Name()) != nil {
			receiver = "(" + name + ") "
		}
		d.add("method "+receiver+m.Obj().Name(), d.text(m.Type()))
	}
}

// fields are those of a struct, and those that it has by an unexported one in it.
func (d describer) fields(name string, s *types.Struct) {
	for f := range s.Fields() {
		switch {
		case f.Exported():
			d.add("field "+name+"."+f.Name(), d.text(f.Type()))
		case f.Embedded():
			t := types.Unalias(f.Type())
			if p, ok := t.(*types.Pointer); ok {
				t = p.Elem()
			}
			if inner, ok := t.Underlying().(*types.Struct); ok {
				d.fields(name, inner)
			}
		}
	}
}

// interfaceType says all methods in one line, since one more breaks whoever implements
// them; but one each if nobody else can.
func (d describer) interfaceType(subject, name string, i *types.Interface) {
	for m := range i.Methods() {
		if !m.Exported() {
			d.add(subject, "interface that others cannot implement")
			for m := range i.Methods() {
				if m.Exported() {
					d.add("method ("+name+") "+m.Name(), d.text(m.Type()))
				}
			}
			return
		}
	}
	d.add(subject, d.text(i))
}

// text is a type, without the names of parameters.
func (d describer) text(t types.Type) string {
	switch t := t.(type) {
	case *types.Pointer:
		return "*" + d.text(t.Elem())
	case *types.Slice:
		return "[]" + d.text(t.Elem())
	case *types.Array:
		return fmt.Sprintf("[%d]%s", t.Len(), d.text(t.Elem()))
	case *types.Map:
		return "map[" + d.text(t.Key()) + "]" + d.text(t.Elem())
	case *types.Chan:
		elem := d.text(t.Elem())
		if _, ok := t.Elem().(*types.Chan); ok {
			elem = "(" + elem + ")"
		}
		return [...]string{types.SendRecv: "chan ", types.SendOnly: "chan<- ", types.RecvOnly: "<-chan "}[t.Dir()] + elem
	case *types.Signature:
		return "func" + d.params(t.TypeParams()) + d.signature(t)
	case *types.Interface:
		if t.NumMethods() == 0 || !t.IsMethodSet() {
			break // any, or a constraint
		}
		var methods []string
		for m := range t.Methods() { // sorted, with those that are embedded
			methods = append(methods, m.Name()+d.signature(m.Signature()))
		}
		return "interface { " + strings.Join(methods, "; ") + " }"
	}
	return types.TypeString(t, d.qualifier)
}

func (d describer) signature(s *types.Signature) string {
	params := d.tuple(s.Params())
	if s.Variadic() {
		last := len(params) - 1
		params[last] = "..." + strings.TrimPrefix(params[last], "[]")
	}
	text := "(" + strings.Join(params, ", ") + ")"
	switch results := d.tuple(s.Results()); len(results) {
	case 0:
	case 1:
		text += " " + results[0]
	default:
		text += " (" + strings.Join(results, ", ") + ")"
	}
	return text
}

func (d describer) tuple(t *types.Tuple) []string {
	var all []string
	for v := range t.Variables() {
		all = append(all, d.text(v.Type()))
	}
	return all
}

func (d describer) params(list *types.TypeParamList) string {
	var all []string
	for p := range list.TypeParams() {
		all = append(all, p.Obj().Name()+" "+d.text(p.Constraint()))
	}
	if all == nil {
		return ""
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func (d describer) qualifier(p *types.Package) string {
	if p == d.pkg {
		return ""
	}
	return p.Path()
}
