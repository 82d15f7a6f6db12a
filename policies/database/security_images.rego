# Where the planned images come from, and whether they are the same tomorrow.
#
# The operator picks the image from its catalogue by engine and version, so `spec.version` is the user's field.
package database.security

import rego.v1

import data.database.lib

# A container without a name or an image counts too: nothing shows that its image was looked at.
violations contains v if {
	container := input.norm.containers[_]
	readable := [1 |
		container.name
		container.image
		container.registry
		container.repository >= ""
		container.repository < []
		not container.valid == false
	]
	readable == []
	v := {
		"id": "security.image-invalid",
		"severity": "high",
		"action": "deny",
		"path": "spec.version",
		"message": sprintf("%s has an image whose reference cannot be read (%s); %s", [title(container), image_text(container), image_remedy]),
	}
}

# With a slash at the end, so that whole parts of the path are compared: `quay.io` is no prefix of `quay.io.evil`.
violations contains v if {
	prefixes := [concat("", [registry, "/"]) |
		registries := input.settings.allow.registries.value
		is_array(registries)
		some registry in registries
		registry >= ""
		registry < []
	]
	image := input.norm.containers[_]
	image.repository >= ""
	image.repository < []
	path := concat("", [image.repository, "/"])
	not strings.any_prefix_match(path, prefixes)
	v := {
		"id": "security.image-registry",
		"severity": "high",
		"action": "deny",
		"path": "spec.version",
		"message": sprintf("the image %s comes from a registry that is not allowed; allowed: %s (setting allow.registries, %s); %s", [image_text(image), lib.listing(data.database.lib.allowed_registries), registries_level, image_remedy]),
	}
}

violations contains v if {
	image := input.norm.containers[_]
	image.repository
	tags := [tag | tag := image.tag; not tag in {"", "latest"}; tag >= ""; tag < []]
	tags == []
	not has_digest(image)
	v := {
		"id": "security.image-tag",
		"severity": "medium",
		"action": "deny",
		"path": "spec.version",
		"message": sprintf("the image %s has the tag latest or none, and no digest, so it may be another one tomorrow; %s", [image_text(image), image_remedy]),
	}
}

has_digest(image) if {
	is_string(image.digest)
	image.digest != ""
}

violations contains v if {
	requirement := input.settings.require.image_digest
	not requirement.value == false
	image := input.norm.containers[_]
	image.repository
	not has_digest(image)
	v := {
		"id": "security.image-digest",
		"severity": "medium",
		"action": "deny",
		"path": "spec.version",
		"message": sprintf("the image %s has no digest, which %s requires (setting require.image_digest); %s", [image_text(image), lib.required_by("image_digest"), image_remedy]),
	}
}

image_remedy := "declare a version whose image is allowed, or have the operator's catalogue changed"

image_text(spec) := words if {
	is_string(spec.image)
	words := lib.quote(spec.image)
} else := "none"

registries_level := from if {
	from := lib.level(input.settings.allow.registries)
} else := "set by no level"
