package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/pelletier/go-toml/v2"
)

const (
	envPrefix  = "ACCIO_"
	configFlag = "config"

	// maxConfig bounds the file of --config. Nobody writes as much by hand, and
	// what has no end, such as a device, is to be an error.
	maxConfig = 1 << 20
)

// Parse reads args, the environment and the file of --config into cmd, which is
// fresh. What the command line sets counts more than what the environment does, that
// more than the file, and that more than the defaults. A variable that is empty is
// not set; one for a flag that the command line sets is not looked at. All of the
// file is looked at. Arguments that the command line leaves out, from the right, can
// be in the file.
//
// A flag such as --help prints something and ends the process. An error names the
// flag, variable, or line of the file that is wrong, and what would be right; it is
// one of [ExitUsage].
//
// Main calls it. A program that is told to read its configuration again calls it with
// os.Args[1:] and a fresh Command, and keeps the old one if there is an error.
func Parse(cmd Command, p Program, args []string) error {
	parser, err := newParser(cmd, p)
	if err != nil {
		panic(err) // the program's own fault
	}
	if err := parse(parser, args); err != nil {
		if shown := (*showError)(nil); errors.As(err, &shown) {
			return err
		}
		return Exit(ExitUsage, fmt.Errorf("%w; see %s --help", err, p.Name))
	}
	return nil
}

func parse(parser *kong.Kong, args []string) error {
	args = quoteNegative(args)
	line, err := kong.Trace(parser, args)
	if err != nil {
		return err
	}
	given := make(map[*kong.Value]*kong.Path)
	help := false
	for _, p := range line.Path {
		if p.Flag != nil {
			given[p.Flag.Value] = p
			help = help || acts(p.Flag.Value)
		}
		if p.Positional != nil {
			given[p.Positional] = p
		}
	}
	if err := valueless(parser, args); line.Error != nil && err != nil {
		return err
	}
	config, name := find(parser, configFlag), ""
	var elsewhere map[*kong.Value]string
	// A mistake in a file does not keep anybody from --help.
	if line.Error == nil && !help {
		from := ""
		if config != nil {
			if p := given[config]; p != nil {
				name, from = line.Value(p).String(), "--"+configFlag
			} else {
				name, from = os.Getenv(envName(config)), envName(config)
			}
		}
		if elsewhere, err = preset(parser, given, name, from); err != nil {
			return err
		}
	}
	_, err = parser.Parse(args)
	if alone := (*flagError)(nil); errors.As(err, &alone) {
		place := elsewhere[find(parser, alone.flag)]
		if place == "" {
			place = "--" + alone.flag
		}
		return fmt.Errorf("%s: %w", place, alone.error)
	}
	if err == nil && config != nil {
		config.Target.SetString(name) // also where the environment has named it
	}
	return err
}

// FlagError returns err, which is why the value of a flag makes no sense beside those of
// others, or without them, for the Validate method of a [Command]. The flag is named
// without its dashes. The user is told where it was set: by the flag, the variable of the
// environment, or the line of the file.
func FlagError(flag string, err error) error { return &flagError{flag, err} }

type flagError struct {
	flag string
	error
}

func (e *flagError) Unwrap() error { return e.error }

// valueless returns an error if the last of args is a flag that lacks its value.
func valueless(parser *kong.Kong, args []string) error {
	for _, f := range parser.Model.Flags {
		if len(args) > 0 && !f.IsBool() && slices.Contains(spellings(f), args[len(args)-1]) {
			return fmt.Errorf("--%s is to be followed by its value, %s", f.Name, f.FormatPlaceHolder())
		}
	}
	return nil
}

func find(parser *kong.Kong, name string) *kong.Value {
	for _, v := range values(parser) {
		if v.Name == name {
			return v
		}
	}
	return nil
}

// preset makes what the environment and a file say the defaults, and returns where each of
// these was set. Without from there is no file.
func preset(parser *kong.Kong, given map[*kong.Value]*kong.Path, name, from string) (places map[*kong.Value]string, err error) {
	var file *file
	if name != "" || from == "--"+configFlag {
		if file, err = readFile(parser, name, from); err != nil {
			return nil, err
		}
	}
	places = make(map[*kong.Value]string)
	for _, v := range values(parser) {
		if !settable(v) {
			continue
		}
		value, ok, err := file.value(v)
		if err != nil {
			return nil, err
		}
		if given[v] != nil {
			continue
		}
		place := file.place(v)
		if env := envName(v); env != "" && os.Getenv(env) != "" {
			if value, err = decode(v, os.Getenv(env)); err != nil {
				return nil, fmt.Errorf("%s: %w", env, err)
			}
			ok, place = true, env
		}
		if ok {
			places[v] = place
			v.HasDefault, v.Required = true, false
			v.Mapper = kong.MapperFunc(func(_ *kong.DecodeContext, target reflect.Value) error {
				target.Set(value)
				return nil
			})
		}
	}
	return places, nil
}

// decode reads a value, as kong does it on the command line.
func decode(v *kong.Value, texts ...string) (reflect.Value, error) {
	target := reflect.New(v.Target.Type()).Elem()
	if target.Kind() == reflect.Map {
		target.Set(reflect.MakeMap(target.Type()))
	}
	if target.Kind() == reflect.Pointer { // kong does so as well
		target.Set(reflect.New(target.Type().Elem()))
	}
	for _, text := range texts {
		scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text})
		if err := v.Mapper.Decode(&kong.DecodeContext{Value: v, Scan: scan}, target); err != nil {
			return target, err
		}
		if v.Enum != "" && !slices.Contains(v.EnumSlice(), fmt.Sprint(reflect.Indirect(target))) {
			return target, fmt.Errorf("must be one of %s, not %q", strings.Join(v.EnumSlice(), ", "), text)
		}
	}
	return target, nil
}

// file is what a file of --config says. Nil says nothing.
type file struct {
	name  string
	keys  map[string]any
	lines map[string]int
}

// readFile reads a file, all of whose keys parser has to know. An error of the file's
// text begins with the place, and others with what has named the file.
func readFile(parser *kong.Kong, name, from string) (*file, error) {
	text, err := readAll(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // as editors on Windows write it
	config := &file{name: name, lines: make(map[string]int)}
	if err := toml.Unmarshal(text, &config.keys); err != nil {
		if wrong := (*toml.DecodeError)(nil); errors.As(err, &wrong) {
			row, column := wrong.Position()
			return nil, fmt.Errorf("%s:%d:%d: %s", name, row, column, strings.TrimPrefix(wrong.Error(), "toml: "))
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	// Where are they? All are strange to a struct without fields.
	var all *toml.StrictMissingError
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&struct{}{}); errors.As(err, &all) {
		for _, missing := range all.Errors {
			row, _ := missing.Position()
			key := missing.Key()
			if err := config.known(parser, strings.Join(key, "."), row); err != nil {
				return nil, err
			}
			config.lines[key[0]] = row
		}
	}
	return config, nil
}

func readAll(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(text) > maxConfig {
		err = fmt.Errorf("%s is larger than %d bytes, and no configuration", name, maxConfig)
	}
	return text, err
}

// known returns an error if the parser has no such key.
func (f *file) known(parser *kong.Kong, key string, line int) error {
	near, least := "", 3
	for _, v := range values(parser) {
		name := keyName(v)
		switch {
		case name == "" && v.Name == key:
			return fmt.Errorf("%s:%d: %s belongs on the command line", f.name, line, key)
		case name == "":
			continue
		case name == key:
			return nil
		}
		if d := distance(strings.ToLower(key), name); d < least {
			near, least = name, d
		}
	}
	if near != "" {
		return fmt.Errorf("%s:%d: there is no key %q; is it %s?", f.name, line, key, near)
	}
	return fmt.Errorf("%s:%d: there is no key %q; keys are the names of flags, such as %s", f.name, line, key, firstFlag(parser).Name)
}

// value is what the file says of v, if it says anything.
func (f *file) value(v *kong.Value) (value reflect.Value, ok bool, err error) {
	if f == nil {
		return value, false, nil
	}
	key := keyName(v)
	raw, ok := f.keys[key]
	if !ok {
		return value, false, nil
	}
	elements := []any{raw}
	list, isList := raw.([]any)
	switch {
	case v.IsCumulative() && isList:
		elements = list
	case v.IsCumulative():
		err = errors.New("a list is wanted, such as [\"…\", \"…\"]")
	case isList:
		err = errors.New("one value is wanted, not a list")
	}
	var texts []string
	for _, e := range elements {
		var text string
		if err == nil {
			text, err = scalar(v, e)
		}
		texts = append(texts, text)
	}
	if err == nil && v.IsCumulative() {
		// On the command line a comma begins the next one. Here it is itself.
		defer func(sep rune) { v.Tag.Sep = sep }(v.Tag.Sep)
		v.Tag.Sep = -1
	}
	if err == nil {
		value, err = decode(v, texts...)
	}
	if err != nil {
		return value, false, fmt.Errorf("%s: %w", f.place(v), err)
	}
	return value, true, nil
}

// place is where the file says it.
func (f *file) place(v *kong.Value) string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d: %s", f.name, f.lines[keyName(v)], keyName(v))
}

// scalar is a value of TOML as one would write it on the command line.
func scalar(v *kong.Value, raw any) (string, error) {
	if text, ok := raw.(string); ok {
		return text, nil
	}
	if _, ok := raw.(map[string]any); ok {
		return "", errors.New("one value is wanted, not a table")
	}
	if k := kind(v); k == reflect.String || k == reflect.Map {
		return "", fmt.Errorf("a text in quotes is wanted, not %v", raw)
	}
	return fmt.Sprint(raw), nil
}

// distance is Levenshtein's: how many letters to insert, delete or replace there are
// between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// durations and numbers are read such that errors say what would do. Neither is
// negative anywhere; those with the tag `positive:""` are not 0 either. Numbers are no
// larger than the tag `most:"N"` has it.
var (
	durations = kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		text, err := pop(ctx)
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(text)
		if positive := ctx.Value.Tag.Has("positive"); err != nil || d < 0 || positive && d == 0 {
			return fmt.Errorf("a time is a number with a unit (ms, s, m, h), such as 10s or 1m30s, %s, not %q", atLeast(positive), text)
		}
		target.SetInt(int64(d))
		return nil
	}))
	numbers = kong.KindMapper(reflect.Int, kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		text, err := pop(ctx)
		if err != nil {
			return err
		}
		positive, most := ctx.Value.Tag.Has("positive"), math.MaxInt32
		if ctx.Value.Tag.Has("most") {
			if most, err = strconv.Atoi(ctx.Value.Tag.Get("most")); err != nil {
				return err // the program's own fault
			}
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > most || positive && n == 0 {
			allowed := atLeast(positive)
			if most < math.MaxInt32 || n >= math.MaxInt32 { // so that who has asked for more is told
				allowed += fmt.Sprintf(" and at most %d", most)
			}
			return fmt.Errorf("it is a whole number, %s, not %q", allowed, text)
		}
		target.SetInt(int64(n))
		return nil
	}))
)

func pop(ctx *kong.DecodeContext) (string, error) {
	token, err := ctx.Scan.PopValue("value")
	return fmt.Sprint(token.Value), err
}

func atLeast(positive bool) string {
	if positive {
		return "more than 0"
	}
	return "0 or more"
}
