package database.governance_limits_test

import rego.v1

import data.database.fixtures_test as fixtures

# Violations as ID at PATH.
found(changes) := places if {
	places := {concat(" at ", [violation.id, violation.path]) |
		some violation in data.database.governance.violations
	} with input as fixtures.changed(changes)
}

amounts := {
	"requests/cpu": {"id": "governance.max-cpu", "most": 8000},
	"limits/cpu": {"id": "governance.max-cpu", "most": 8000},
	"requests/memory": {"id": "governance.max-memory", "most": 34359738368},
	"limits/memory": {"id": "governance.max-memory", "most": 34359738368},
	"requests/storage": {"id": "governance.max-storage", "most": 2199023255552},
}

place(id, field) := sprintf("%s at spec.resources.%s", [id, replace(field, "/", ".")])

over_all := {place(amount.id, field) | some field, amount in amounts}

test_most if {
	found([change | some field, amount in amounts; change := fixtures.put(concat("/", ["/norm", field]), amount.most)]) == set()
}

test_more_than_the_most if {
	found([change | some field, amount in amounts; change := fixtures.put(concat("/", ["/norm", field]), amount.most + 1)]) == over_all
}

test_more_than_the_most_of_one if {
	every field in ["limits/cpu", "requests/memory"] {
		found([fixtures.put(concat("/", ["/norm", field]), amounts[field].most + 1)]) == {place(amounts[field].id, field)}
	}
}

test_no_bound_no_violation if {
	found([fixtures.drop("/settings/max/cpu"), fixtures.put("/norm/requests/cpu", 900000)]) == set()
}

test_measure_and_message if {
	over := [violation | some violation in data.database.governance.violations] with input as fixtures.changed([
		fixtures.put("/object/spec/resources/requests/cpu", "9.5"),
		fixtures.put("/norm/requests/cpu", 9500),
	])
	over == [{
		"id": "governance.max-cpu",
		"severity": "medium",
		"action": "deny",
		"path": "spec.resources.requests.cpu",
		"message": "the CPU request \"9.5\" is more than 8000m, the most that level environment/production allows (setting max.cpu); ask for at most that",
		"measure": 9500,
	}]
}

unreadable := {place("governance.unreadable", field) | some field, _ in amounts}

# An amount that stands in the Database, but not as a number in `norm`.
test_unreadable_amount if {
	found([fixtures.drop("/norm/requests"), fixtures.drop("/norm/limits")]) == unreadable
	found([change | some field, _ in amounts; change := fixtures.put(concat("/", ["/norm", field]), "4")]) == unreadable
}

test_only_the_unreadable_amount if {
	found([fixtures.drop("/norm/requests/storage")]) == {"governance.unreadable at spec.resources.requests.storage"}
}

test_no_amount_is_not_unreadable if {
	found([fixtures.drop("/norm/limits"), fixtures.drop("/object/spec/resources/limits")]) == set()
	found([fixtures.drop("/norm/limits"), fixtures.put("/object/spec/resources/limits", {"cpu": null})]) == set()
}

test_unreadable_fields if {
	found([fixtures.put("/norm/unparsable", ["spec.resources.requests.cpu", "spec.backupPolicy.timeZone"])]) == {
		"governance.unreadable at spec.resources.requests.cpu",
		"governance.unreadable at spec.backupPolicy.timeZone",
	}
}

test_unreadable_field_that_is_no_list if {
	found([fixtures.put("/norm/unparsable", "spec.version.x")]) == {"governance.unreadable at spec.version.x"}
	found([fixtures.put("/norm/unparsable", ["spec.version", 7])]) == {"governance.unreadable at spec"}
}

test_unreadable_fields_with_rules_of_their_own if {
	found([fixtures.put("/norm/unparsable", ["spec.version", "spec.backupPolicy.schedule", "spec.backupPolicy.retention"])]) == set()
	found([fixtures.drop("/norm/unparsable")]) == set()
}

test_only_amounts_are_quoted if {
	messages := {violation.message | some violation in data.database.governance.violations} with input as fixtures.changed([
		fixtures.put("/object/spec/resources/requests/cpu", "two"),
		fixtures.put("/norm/unparsable", ["spec.resources.requests.cpu", "spec.backupPolicy.timeZone", "spec.resources.limits.storage"]),
	])
	messages == {
		"spec.resources.requests.cpu cannot be read, so no bound can be compared with it (\"two\"); write it as its field's description says",
		"spec.backupPolicy.timeZone cannot be read, so no bound can be compared with it; write it as its field's description says",
		"spec.resources.limits.storage cannot be read, so no bound can be compared with it; write it as its field's description says",
	}
}
