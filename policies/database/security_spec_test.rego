package database.security_spec_test

import rego.v1

import data.database.fixtures_test as fixtures

# Violations as ID at PATH.
found(changes) := places if {
	places := {concat(" at ", [violation.id, violation.path]) |
		some violation in data.database.security.violations
	} with input as fixtures.changed(changes)
}

fields := {
	"limits/cpu": "security.limits-missing at spec.resources.limits.cpu",
	"limits/memory": "security.limits-missing at spec.resources.limits.memory",
	"requests/cpu": "security.requests-missing at spec.resources.requests.cpu",
	"requests/memory": "security.requests-missing at spec.resources.requests.memory",
}

test_missing if {
	every field, expected in fields {
		found([fixtures.drop(concat("", ["/object/spec/resources/", field]))]) == {expected}
		found([fixtures.drop(fixtures.in_container(concat("", ["resources/", field])))]) == {expected}
		found([fixtures.drop(fixtures.in_init(concat("", ["resources/", field])))]) == {expected}
	}
}

# Once for each field, however many containers lack it.
test_all_missing if {
	all := {expected | some expected in fields}
	found([fixtures.drop("/object/spec/resources")]) == all
	found([
		fixtures.drop(fixtures.in_container("resources")),
		fixtures.put(fixtures.in_init("resources"), "text"),
	]) == all
}

test_missing_is_allowed_only_in_so_many_words if {
	missing := fixtures.drop("/object/spec/resources/limits/cpu")
	found([missing, fixtures.put("/settings/require/limits/value", false)]) == set()
	found([fixtures.drop("/object/spec/resources/requests/cpu"), fixtures.put("/settings/require/limits/value", false)]) == set()
	every setting in [
		fixtures.drop("/settings/require/limits"),
		fixtures.drop("/settings/require"),
		fixtures.put("/settings/require/limits/value", "false"),
		fixtures.put("/settings/require/limits", {}),
	] {
		found([missing, setting]) == {fields["limits/cpu"]}
	}
}

with_location(location) := found([fixtures.put("/object/spec/backupPolicy/storageLocation", location)])

test_inline_credentials if {
	every location in [
		"s3://user:hunter2@backups/shop",
		"s3://user@backups/shop",
		"https://user:with/slash@backups/shop",
		"user:hunter2@backups",
		"https://backups/shop?a=1?Password=hunter2",
		"https://backups/shop?X-Amz-Signature=hunter2",
		"https://backups/shop?access_key=hunter2",
	] {
		with_location(location) == {"security.inline-credentials at spec.backupPolicy.storageLocation"}
	}
	every location in ["s3://company-backups/databases/shop/", "https://backups:8443/password/shop?region=eu", "", 7] {
		with_location(location) == set()
	}
}

test_credentials_are_never_quoted if {
	messages := {violation.message |
		some violation in data.database.security.violations
	} with input as fixtures.changed([fixtures.put("/object/spec/backupPolicy/storageLocation", "s3://user:hunter2@backups")])
	count(messages) == 1
	every message in messages {
		not contains(message, "hunter2")
		not contains(message, "user")
	}
}
