// Writes golden vectors of quantities: text, whether it is accepted, canonical form, milli value, value (both rounded up),
// and whether its magnitude is over 2^63-1 (where apimachinery's own arithmetic overflows).
package main

import (
	"bufio"
	"fmt"
	"math/big"
	"math/rand"
	"os"
	"sort"

	"k8s.io/apimachinery/pkg/api/resource"
)

func pick(r *rand.Rand, from []string) string { return from[r.Intn(len(from))] }

func digits(r *rand.Rand, max int) string {
	out := ""
	for i := r.Intn(max + 1); i > 0; i-- {
		if r.Intn(3) == 0 {
			out += "0"
		} else {
			out += string(rune('0' + r.Intn(10)))
		}
	}
	return out
}

func main() {
	texts := map[string]bool{}
	for _, text := range []string{"0", "-0", "+0", "00", "0.0", "-", "+", ".", "-.", "+.", "5.", ".5", "-.5", "+.5", "5.Ki", ".5Ki", "Ki", "Ti", "Pi", ".Pi", "-Ei", "0Ei", "e-9", "e-10", "e10", ".e-10", "-n", "1", "+1", "-1",
		"1n", "1u", "1m", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei", "1K", "1KI", "1ki", "1mi", "1gi", "1g", "1t", "1p", "1i", "1B", "1GB", "1GiB", "1kb", "1Kb",
		"1e3", "1E3", "1e+3", "1e-3", "1E-3", "1e03", "1e0", "1e", "1E+", "1e-", "1e1", "1e2", "1e4", "1e5", "1e-1", "1e-9", "1e-10", "1e18", "1e19", "1ee3", "1e3k", "1e3Ki", "1Ke3", "1e1.5", "1e 3",
		"", " ", " 1", "1 ", "1 Gi", "1\t", "Gi", "n", "e3", "E", "NaN", "nan", "Inf", "inf", "-Inf", "0x1", "0b1", "1_000", "1,000", "1,5", "1.5.5", "1..5", "..5", "--1", "+-1", "-+1", "1-", "1+", "1-Gi", "1Gi-", "1%", "$1", "one", "１", "1\u00a0Gi", "µ", "1µ", "1mm", "1mK", "1MiB", "1Gii", "1GiGi", "Ki1",
		"1023", "1024", "1025", "1023Ki", "1024Ki", "1024Mi", "1024Gi", "1024Ti", "1024Pi", "1.5Gi", "0.5Gi", "0.1Gi", "0.0001Ki", "0.0009765625Ki", "0.5Ki", "1.1Ki", "2.5Mi", "-1Ki", "-1.5Gi", "-0.1Ki", "-1023Ki",
		"1000m", "1500m", "999m", "1001m", "100u", "1000u", "1000000u", "1000000n", "1n", "0.5n", "1.5n", "-0.5n", "0.0000000001", "0.1", "0.12345678912", "0.0015", "12.345", "12.345m", "123456789.123456789", "1000", "10000", "1000k", "1000000", "1000000000", "100", "10", "1000E", "10E", "9E", "9.2E", "9.3E", "7Ei", "8Ei", "7.9Ei", "16Ei", "100Ei", "-8Ei", "-16Ei",
		"9223372036854775807", "9223372036854775808", "-9223372036854775807", "-9223372036854775808", "9223372036854775807m", "9223372036854775807k", "9223372036854775.807k", "999999999999999999999999999999", "0.999999999", "0.9999999999", "4294967296", "1e4294967296", "1e4294967299", "1e9223372036854775807", "1e9223372036854775808", "1e99999999999999999999"} {
		texts[text] = true
	}
	r := rand.New(rand.NewSource(20260101))
	suffixes := []string{"", "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E6", "e-3", "e+2", "e-7", "e1"}
	for len(texts) < 900 {
		text := pick(r, []string{"", "", "", "-", "+"}) + digits(r, 12)
		if r.Intn(2) == 0 {
			text += "." + digits(r, 12)
		}
		texts[text+pick(r, suffixes)] = true
	}
	for len(texts) < 1200 { // around the bounds
		texts[pick(r, []string{"", "-"})+digits(r, 22)+pick(r, []string{"", ".", ".5", ".000000001"})+pick(r, suffixes)] = true
	}
	alphabet := []string{"0", "1", "9", ".", "-", "+", "e", "E", "i", "n", "u", "m", "k", "K", "M", "G", "T", "P", " "}
	for len(texts) < 1600 { // mostly nonsense
		text := ""
		for i := 1 + r.Intn(6); i > 0; i-- {
			text += pick(r, alphabet)
		}
		texts[text] = true
	}
	sorted := make([]string, 0, len(texts))
	for text := range texts {
		sorted = append(sorted, text)
	}
	sort.Strings(sorted)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintln(out, "text\taccepted\tcanonical\tmilli\tvalue\tover")
	limit := new(big.Int).SetUint64(1<<63 - 1)
	thousand := big.NewInt(1000)
	for _, text := range sorted {
		quantity, err := resource.ParseQuantity(text)
		if err != nil {
			fmt.Fprintf(out, "%q\tno\t\t\t\t\n", text)
			continue
		}
		number, suffix := quantity.CanonicalizeBytes(make([]byte, 0, 32))
		// Exact, by the arbitrary precision form: nano-units.
		nano := new(big.Int).Set(quantity.AsDec().UnscaledBig())
		scale := 9 - int(quantity.AsDec().Scale())
		over := scale > 60
		if !over {
			if scale >= 0 {
				nano.Mul(nano, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil))
			} else {
				panic("finer than nano: " + text)
			}
			bound := new(big.Int).Mul(limit, big.NewInt(1000000000))
			over = new(big.Int).Abs(nano).Cmp(bound) > 0
		}
		if over {
			fmt.Fprintf(out, "%q\tyes\t\t\t\t%d\n", text, quantity.Sign())
			continue
		}
		up := func(unit int64) *big.Int {
			q, m := new(big.Int).QuoRem(nano, big.NewInt(unit), new(big.Int))
			if m.Sign() != 0 {
				q.Add(q, big.NewInt(int64(m.Sign())))
			}
			return q
		}
		milli, value := up(1000000), up(1000000000)
		// The exact arithmetic above must agree with the library's, wherever that does not overflow.
		// (Not for negative amounts: there the library truncates and then adds one.)
		if quantity.Sign() >= 0 && value.Int64() != quantity.Value() {
			panic(fmt.Sprintf("%q: value %d, not %d", text, quantity.Value(), value))
		}
		if quantity.Sign() >= 0 && limit.Cmp(new(big.Int).Mul(value, thousand)) > 0 && milli.Int64() != quantity.MilliValue() {
			panic(fmt.Sprintf("%q: milli %d, not %d", text, quantity.MilliValue(), milli))
		}
		fmt.Fprintf(out, "%q\tyes\t%s%s\t%s\t%s\t\n", text, number, suffix, milli, value)
	}
}
