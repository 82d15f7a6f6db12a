package database.lib_test

import rego.v1

import data.database.fixtures_test as fixtures
import data.database.lib

test_parts_of_a_good_input if {
	lib.spec.engine == "postgresql" with input as fixtures.good
	lib.norm.requests.cpu == 2000 with input as fixtures.good
	count(lib.children) == 2 with input as fixtures.good
	lib.maximum.cpu.value == 8000 with input as fixtures.good
	lib.minimum.retention_days.value == 7 with input as fixtures.good
	lib.allowed_engines == ["postgresql", "redis"] with input as fixtures.good
}

test_parts_have_a_value_whatever_the_input_is if {
	every other in [{}, [], "text", 7, null, {"object": [], "norm": "n", "children": {}, "settings": []}, {"settings": {"allow": 7}}] {
		lib.spec == {} with input as other
		lib.norm == {} with input as other
		lib.children == [] with input as other
		lib.maximum == {} with input as other
		lib.minimum == {} with input as other
		lib.allowed_engines == [] with input as other
		lib.allowed_registries == [] with input as other
		lib.production with input as other
		lib.limits_required with input as other
	}
}

test_environment if {
	lib.environment == "production" with input as {"norm": {"environment": {"name": ""}}}
	lib.environment == "production" with input as {"norm": {"environment": {"name": 7}}}
	lib.environment == "staging" with input as {"norm": {"environment": {"name": "staging"}}}
	not lib.production with input as {"norm": {"environment": {"name": "staging"}}}
}

test_required if {
	entries := {"a": {"value": true}, "b": {"value": "no"}, "c": {}, "d": 7, "e": {"value": false}}
	lib.required == {"a", "b", "c", "d"} with input as {"settings": {"require": entries}}
	lib.required == set() with input as {}
}

test_quote if {
	lib.quote("16") == "\"16\""
	lib.quote(16) == "16"
	lib.quote(true) == "true"
	lib.quote(["16"]) == "a value that is not text"
	long := concat("", [x | some _ in split("0123456789", ""); x := "0123456789"])
	lib.quote(long) == concat("", ["\"", substring(long, 0, 80), "...\""])
}

test_texts_of_settings if {
	lib.bound({"value": 8000, "text": "8"}) == "8"
	lib.bound({"value": 8000}) == "8000"
	lib.bound({"value": 8000, "text": 7}) == "8000"
	lib.level({"level": "team/payments"}) == "level team/payments"
	lib.level({"level": ""}) == "a level that the settings do not name"
	lib.level("text") == "a level that the settings do not name"
	lib.required_by("limits") == "level global" with input as {}
	lib.declared("requests", "cpu") == "of an unknown size" with input as {}
	lib.listing(["a", 7, "b"]) == "a, b"
	lib.listing([]) == "none"
}

test_listed if {
	lib.listed([1, 2]) == [1, 2]
	lib.listed({"a": 1}) == [{"a": 1}]
	lib.listed(null) == [null]
}
