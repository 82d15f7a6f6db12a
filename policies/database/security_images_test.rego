package database.security_images_test

import rego.v1

import data.database.fixtures_test as fixtures

found(changes) := ids if {
	ids := {violation.id | some violation in data.database.security.violations} with input as fixtures.changed(changes)
}

with_image(field, value) := found([fixtures.put(concat("/", ["/norm/images/0", field]), value)])

test_invalid if {
	with_image("valid", false) == {"security.image-invalid"}
	found([fixtures.drop("/norm/images/0/registry")]) == {"security.image-invalid"}
	found([fixtures.drop("/norm/images/0/repository")]) == {"security.image-invalid"}
	with_image("valid", true) == set()
}

# `norm` and the planned pod must speak of the same images, of all of them.
test_not_described if {
	with_image("image", "quay.io/other:1") == {"security.image-invalid"}
	with_image("container", "other") == {"security.image-invalid"}
	with_image("kind", "initContainers") == {"security.image-invalid"}
	found([fixtures.drop("/norm/images/1")]) == {"security.image-invalid"}
	found([fixtures.drop("/norm/images")]) == {"security.image-invalid"}
	found([fixtures.put("/norm/images", "text")]) == {"security.image-invalid"}
	found([fixtures.drop(fixtures.in_container("image"))]) == {"security.image-invalid"}
}

test_registry if {
	every repository in [
		"docker.io/someone/postgres",
		"docker.io/library-evil/postgres",
		"docker.io/libraryevil",
		"docker.io",
		"quay.io.evil.com/postgres",
		"quay.io:5000/postgres",
		"evil.com/docker.io/library/postgres",
		"",
	] {
		with_image("repository", repository) == {"security.image-registry"}
	}
	every repository in ["docker.io/library/mysql", "quay.io/team/postgres", "quay.io"] {
		with_image("repository", repository) == set()
	}
}

# A list that is missing, or is none, allows nothing.
test_registry_list if {
	found([fixtures.drop("/settings/allow/registries")]) == {"security.image-registry"}
	found([fixtures.put("/settings/allow/registries/value", [])]) == {"security.image-registry"}
	found([fixtures.put("/settings/allow/registries/value", "docker.io")]) == {"security.image-registry"}
	found([fixtures.put("/settings/allow/registries/value", [""])]) == {"security.image-registry"}
	found([fixtures.put("/settings/allow/registries/value", [7, "docker.io"])]) == set()
}

test_tag if {
	with_image("tag", "latest") == {"security.image-tag"}
	with_image("tag", "") == {"security.image-tag"}
	with_image("tag", 16) == {"security.image-tag"}
	found([fixtures.drop("/norm/images/1/tag")]) == {"security.image-tag"}
	with_image("tag", "16") == set()
}

# A digest is always the same image, whatever its tag.
test_digest_in_place_of_a_tag if {
	found([fixtures.drop("/norm/images/0/tag"), fixtures.put("/norm/images/0/digest", "sha256:00")]) == set()
	found([fixtures.put("/norm/images/0/tag", "latest"), fixtures.put("/norm/images/0/digest", "sha256:00")]) == set()
	found([fixtures.drop("/norm/images/0/tag"), fixtures.put("/norm/images/0/digest", "")]) == {"security.image-tag"}
	found([fixtures.drop("/norm/images/0/tag"), fixtures.put("/norm/images/0/digest", ["sha256:00"])]) == {"security.image-tag"}
}

test_digest if {
	required := fixtures.put("/settings/require/image_digest", {"value": true, "level": "team/payments"})
	digests := [
		fixtures.put("/norm/images/0/digest", "sha256:00"),
		fixtures.put("/norm/images/1/digest", "sha256:00"),
	]
	found([required]) == {"security.image-digest"}
	found([required, digests[0]]) == {"security.image-digest"}
	found(array.concat([required], digests)) == set()
	found([fixtures.put("/settings/require/image_digest", {"value": false})]) == set()
}

test_messages if {
	messages := {violation.message | some violation in data.database.security.violations} with input as fixtures.changed([
		fixtures.put("/norm/images/0/repository", "evil.com/a"),
		fixtures.put("/settings/require/image_digest", {"value": true, "level": "team/payments"}),
		fixtures.drop(fixtures.in_init("image")),
	])
	some first in messages
	contains(first, "allowed: docker.io/library, quay.io (setting allow.registries, level global)")
	some second in messages
	contains(second, "which level team/payments requires (setting require.image_digest)")
	some third in messages
	contains(third, "cannot be read (none)")
}

# The one container that is not described, not its neighbour too.
test_only_what_is_not_described_is_reported if {
	messages := [violation.message | some violation in data.database.security.violations] with input as fixtures.changed([fixtures.drop("/norm/images/1")])
	count(messages) == 1
	contains(messages[0], "\"initialise\" (initContainers)")
}

test_message_without_a_list if {
	messages := {violation.message | some violation in data.database.security.violations} with input as fixtures.changed([fixtures.drop("/settings/allow/registries")])
	some message in messages
	contains(message, "allowed: none (setting allow.registries, set by no level)")
}
