package countersign

# The images of a pod, wherever they stand. A container that names none has the image "", which nobody allows.
named(spec) := {image |
	some field in ["containers", "initContainers", "ephemeralContainers"]
	some container in object.get(spec, field, [])
	image := object.get(container, "image", "")
} | {image |
	some volume in object.get(spec, "volumes", [])
	image := object.get(volume.image, "reference", "")
}

# A pod that runs already keeps its labels and finalizers in motion while its registry is away.
default before := set()

before := named(input.review.oldObject.spec) if input.review.operation == "UPDATE"

asked := named(input.review.object.spec) - before

# Undefined where Gatekeeper cannot ask: then nothing is allowed below.
answer := external_data({"provider": "countersign", "keys": [image | some image in asked]}) if count(asked) > 0

allowed contains image if {
	answer.system_error == ""
	some [image, value] in answer.responses
	value.allow == true
	not image in refused
}

refused contains image if some [image, _] in answer.errors

violation contains {"msg": message} if {
	some image in asked
	not image in allowed
	message := concat("; ", reasons(image))
}

# Whatever was answered, there is a reason: a rule that cannot say why would refuse nothing.
reasons(image) := said if {
	said := [sprintf("%v", [why]) | some [key, why] in answer.errors; key == image]
	count(said) > 0
} else := [sprintf("countersign: refused %v: GATE_DOWN: its provider gave no answer%v", [image, concat("", system)])] if {
	system := [sprintf(": %v", [why]) | why := answer.system_error; why != ""]
}
