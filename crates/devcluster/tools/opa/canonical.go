package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
)

// Appends `value` so that equal values are equal texts: sorted keys, no spaces, whole numbers in plain digits.
func canonical(text []byte, value any) ([]byte, error) {
	var err error
	switch value := value.(type) {
	case nil:
		return append(text, "null"...), nil
	case bool:
		return strconv.AppendBool(text, value), nil
	case json.Number:
		return append(text, number(value)...), nil
	case string:
		return quoted(text, value)
	case []any:
		text = append(text, '[')
		for i, element := range value {
			if i > 0 {
				text = append(text, ',')
			}
			if text, err = canonical(text, element); err != nil {
				return nil, err
			}
		}
		return append(text, ']'), nil
	case map[string]any:
		text = append(text, '{')
		for i, key := range slices.Sorted(maps.Keys(value)) {
			if i > 0 {
				text = append(text, ',')
			}
			if text, err = quoted(text, key); err != nil {
				return nil, err
			}
			text = append(text, ':')
			if text, err = canonical(text, value[key]); err != nil {
				return nil, err
			}
		}
		return append(text, '}'), nil
	default:
		return nil, fmt.Errorf("a value of type %T cannot be written as JSON", value)
	}
}

func number(given json.Number) string {
	float, err := given.Float64()
	if err != nil {
		return given.String() // beyond 1e308: nobody writes out 1e1000000
	}
	if exact, ok := new(big.Rat).SetString(given.String()); ok && exact.IsInt() {
		return exact.Num().String()
	}
	return strconv.FormatFloat(float, 'f', -1, 64)
}

func quoted(text []byte, value string) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return append(text, bytes.TrimRight(buffer.Bytes(), "\n")...), nil
}
