"""What is done to a batch on the device before the network sees it."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from yolo_jax.core.fields import Within
from yolo_jax.core.numbers import is_traced, may_differ
from yolo_jax.data.augment.colour import change_colours, change_hsv
from yolo_jax.data.augment.drawing import Drawing, draw, each_alone
from yolo_jax.data.augment.mixing import (
    ALONE,
    COPY,
    IMAGES,
    MIXUP,
    MOSAIC,
    copied,
    draw_regions,
    draw_shares,
    whole_pixels,
)
from yolo_jax.data.augment.placement import Placement, Region, draw_crop, draw_scaled
from yolo_jax.data.examples import Mixing

# Sets the keys of partners, and of how they are mixed, apart from those split off for the first.
_PARTNERS = 0x6D697800

_Share = Annotated[float, Within(0, 1)]
_Length = Annotated[float, Within(1)]
_Scale = Annotated[float, Within(0, above=True)]
_Factor = Annotated[float, Within(1)]
_Count = Annotated[int, Within(1)]
_Side = Annotated[int, Within(32, 2**14, multiple_of=32)]
_Hue = Annotated[float, Within(0, 0.5)]
# Of the canvas and of the output, (height, width) in px.
_Shapes = tuple[tuple[int, int], tuple[int, int]]
_Jitter = Annotated[float, Within(0, 1, below=True)]


class Augmented(NamedTuple):
    """An augmented batch.

    Attributes:
        image: RGB of 0–1.
        boxes: xyxy in its pixels; rows of padding are 0.
        classes: −1 marks padding.
        excess: boxes of each image that `max_boxes` left no room for; None where all have room.
    """

    image: Float[Array, "b h2 w2 3"]
    boxes: Float[Array, "b t2 4"]
    classes: Int[Array, "b t2"]
    excess: Int[Array, "b"] | None


class _Plan(NamedTuple):
    """What becomes of a group; `is_turned` by a quarter turn, once it is drawn."""

    drawing: Drawing
    is_turned: Array
    boxes: Array
    classes: Array


@dataclass(frozen=True)
class Augment:
    """Crops or scales, flips, turns, recolours and mixes a batch; boxes follow exactly.

    Attributes:
        crop: least and greatest longer side of the random crop, which has the output's aspect, px
            of the canvas; None: all of it. What a crop shows beyond the canvas is grey.
        aspect_jitter: greatest relative change j of the aspect: a crop's is times 1 ± j, a scaled
            canvas's times (1 ± j) / (1 ± j).
        flip: probability of a left-right flip.
        quarter_turns: turn by a random multiple of 90° (square outputs).
        brightness: greatest relative change, as of the exposure.
        contrast: greatest relative change, about the image's mean.
        saturation: greatest relative change, about the grey image.
        hue: greatest turn of the hue, of the full circle.
        min_box_px: boxes narrower than this after clipping go, px of the output.
        min_area: boxes that keep less than this share of their area go.
        scale: least and greatest size of the canvas on the output, of the output's, put at a random
            place; keras-yolo3 has (0.25, 2) with an aspect_jitter of 0.3. Not beside a crop.
        hsv: greatest shift of the hue, and greatest factor or divisor of saturation and value;
            keras-yolo3 has (0.1, 1.5, 1.5). In place of brightness, saturation and hue.
        placed: probability of the crop or scale; of the other images all is shown.
        recoloured: probability of a change of colours.
        mosaic: probability of a mosaic of 4 images.
        mosaic_zoom: least and greatest size of a mosaic's images against what they have alone; no
            less, whatever the zoom, scale or crop, than fills their quadrants.
        mixup: probability of blending 2 images.
        copy: probability of copying a partner's small objects to where no box is.
        copy_px: greatest side of a small object, px of the output.
        max_boxes: rows of the resulting boxes; None: as many as there can be. Boxes without a row
            are counted, and `fit` tells of them after each epoch.
        multi_scale: sides in px, multiples of 32, of the square outputs that `MultiScale` draws
            from for each few steps; none: all have the network's input size.

    `core.fields.check_fields` checks ranges, and `check` what excludes each other, which the first
    call does too.

    Strengths, sizes and probabilities may be traced, all but those of mosaic, mixup and copy, by
    which the pipeline chooses. A traced one is always computed with; a plain 0 leaves it out.
    """

    crop: tuple[_Length, _Length] | None = None
    aspect_jitter: _Jitter = 0.0
    flip: _Share = 0.5
    quarter_turns: bool = False
    brightness: _Share = 0.0
    contrast: _Share = 0.0
    saturation: _Share = 0.0
    hue: _Hue = 0.0
    min_box_px: Annotated[float, Within(0)] = 2.0
    min_area: _Share = 0.2
    scale: tuple[_Scale, _Scale] | None = None
    hsv: tuple[_Hue, _Factor, _Factor] | None = None
    placed: _Share = 1.0
    recoloured: _Share = 1.0
    mosaic: _Share = 0.0
    mosaic_zoom: tuple[_Scale, _Scale] = (0.5, 1.0)
    mixup: _Share = 0.0
    copy: _Share = 0.0
    copy_px: _Length = 32.0
    max_boxes: _Count | None = None
    multi_scale: tuple[_Side, ...] = ()

    def check(self) -> None:
        """Checks what no field by itself can show.

        Traced numbers pass: they are checked as plain ones before the program gets them.

        Raises:
            ValueError: a range's greatest end is less than its least, two options exclude each
                other, or the probabilities of mixing exceed 1.
        """
        for name in ("crop", "scale", "mosaic_zoom"):
            ends = getattr(self, name)
            if ends is None or any(map(is_traced, ends)):
                continue
            if ends[0] > ends[1]:
                raise ValueError(f"{name} is {ends}; expected (least, greatest)")
        if self.crop is not None and self.scale is not None:
            raise ValueError("crop and scale both say what part is shown; set one of them")
        beside = (self.brightness, self.saturation, self.hue)
        if self.hsv is not None and any(not is_traced(change) and change for change in beside):
            raise ValueError("hsv stands in place of brightness, saturation and hue; set either")
        if self.mosaic + self.mixup + self.copy > 1:
            raise ValueError(
                "mosaic, mixup and copy add up to "
                f"{self.mosaic + self.mixup + self.copy:g}; expected 1 at most, since an image is "
                "mixed in one way at a time"
            )

    @property
    def group(self) -> int:
        """Returns k, the images that the pipeline hands over for each one; 1: no mixing."""
        chances = ((self.mosaic, MOSAIC), (self.mixup, MIXUP), (self.copy, COPY))
        return max((IMAGES[mix] for chance, mix in chances if chance), default=1)

    def mixing(self, batches: int | None = None) -> Mixing | None:
        """Returns what the pipeline has to hand over; None where nothing is mixed.

        Args:
            batches: of the run that are mixed; None: all.
        """
        if self.group == 1:
            return None
        return Mixing(self.choose_mix, IMAGES, self.group, batches)

    def choose_mix(self, draw: float) -> int:
        """Returns what becomes of an example, by a number drawn from [0, 1) for it."""
        for chance, mix in ((self.mosaic, MOSAIC), (self.mixup, MIXUP), (self.copy, COPY)):
            if draw < chance:
                return mix
            draw -= chance
        return ALONE

    def __call__(
        self,
        keys: Key[Array, "b"],
        image: UInt8[Array, "b *k h w 3"],
        boxes: Float[Array, "b *k t 4"],
        classes: Int[Array, "b *k t"],
        mix: Int[Array, "b"] | None = None,
        *,
        output_shape: tuple[int, int],
    ) -> Augmented:
        """Augments a batch of images, or of groups of them: the first with its partners.

        Args:
            keys: one for each image or group; nothing else decides what happens to it.
            image: RGB on the canvas; of partners that `mix` does not need, anything.
            boxes: xyxy in pixels of the canvas.
            classes: −1 marks padding.
            mix: of each group, `ALONE`, `MOSAIC`, `MIXUP` or `COPY`.
            output_shape: (height, width) of the result, px.

        Returns:
            Images, their boxes (k·t rows, or `max_boxes`), and how many had no row. Boxes that
            went are padding.

        Raises:
            ValueError: what `check` refuses, quarter turns of an output that is not square, groups
                of another size than `group`, or groups without `mix`.
        """
        self.check()
        if self.quarter_turns and output_shape[0] != output_shape[1]:
            raise ValueError(f"quarter turns need a square output; found {output_shape}")
        if image.ndim == 4:
            image, boxes, classes = (part[:, None] for part in (image, boxes, classes))
        elif image.shape[1] != self.group or mix is None:
            given = "no mix" if mix is None else "a mix"
            raise ValueError(
                f"this augmentation mixes groups of {self.group} images by a mix for each; found "
                f"images of {image.shape} and {given}"
            )
        if mix is None:
            mix = jnp.full(len(image), ALONE)
        shapes = (image.shape[2], image.shape[3]), output_shape
        plans = jax.vmap(partial(self._plan, shapes=shapes))(keys, boxes, classes, mix)
        # Colours are changed apart from the drawing: within one loop XLA on a CPU would draw a
        # pixel again for each use that they make of it.
        pixels = each_alone(draw, image, plans.drawing)
        pixels = jax.vmap(self._finish)(keys, pixels, plans.is_turned)
        boxes, classes, excess = jax.vmap(self._limit)(plans.boxes, plans.classes)
        return Augmented(pixels, boxes, classes, excess)

    def move_boxes(
        self,
        key: Key[Array, ""],
        boxes: Float[Array, "k t 4"],
        classes: Int[Array, "k t"],
        mix: Int[Array, ""],
        *,
        shapes: _Shapes,
    ) -> tuple[Float[Array, "t2 4"], Int[Array, "t2"]]:
        """Does to a group's boxes what a call does, without the pixels.

        Args:
            key: decides what happens to them.
            boxes: xyxy in pixels of the canvas.
            classes: −1 marks padding.
            mix: of the group.
            shapes: (height, width) of the canvas and of the output, px.
        """
        plan = self._plan(key, boxes, classes, mix, shapes=shapes)
        return self._limit(plan.boxes, plan.classes)[:2]

    def _plan(
        self, key: Array, boxes: Array, classes: Array, mix: Array, *, shapes: _Shapes
    ) -> _Plan:
        """Draws what becomes of a group, of boxes `[k t 4]` and classes `[k t]`."""
        images, output_shape = len(boxes), shapes[1]
        quarters = jnp.int32(0)
        if self.quarter_turns:
            quarters = jax.random.randint(jax.random.split(key, 4)[2], (), 0, 4)
        is_turned = quarters % 2 == 1
        mix_key = jax.random.fold_in(key, _PARTNERS)
        region_key, share_key = jax.random.split(mix_key)
        regions = draw_regions(region_key, mix, images, output_shape)
        shares = draw_shares(share_key, mix, images)
        partner_keys = jax.vmap(partial(jax.random.fold_in, key))(_PARTNERS + jnp.arange(1, images))
        own_keys = jnp.concatenate([key[None], partner_keys])
        place = jax.vmap(partial(self._place, is_turned=is_turned, mix=mix, shapes=shapes))
        placements = place(own_keys, regions)
        rows, columns = (placements.positions(axis, output_shape[axis]) for axis in (0, 1))
        boxes, kept = placements.boxes(boxes, self.min_box_px, self.min_area)
        kept &= classes >= 0
        shown, patches = kept & (shares > 0)[:, None], None
        if self.copy and images > 1:
            pasted = copied(boxes[0], kept[0], boxes[1], kept[1], self.copy_px) & (mix == COPY)
            patches = jnp.where(pasted[:, None], whole_pixels(boxes[1]), 0)
            shown = shown.at[1].set(shown[1] | pasted)
        boxes, classes = boxes.reshape(-1, 4), jnp.where(shown, classes, -1).reshape(-1)
        if self.quarter_turns:
            boxes = jnp.where(is_turned, boxes[:, jnp.array([1, 0, 3, 2])], boxes)
        drawing = Drawing(rows, columns, shares, regions, patches)
        return _Plan(drawing, is_turned, boxes, classes)

    def _place(
        self, key: Array, region: Region, is_turned: Array, mix: Array, shapes: _Shapes
    ) -> Placement:
        """Draws what part of a canvas a region shows, and how it is mirrored.

        A quarter turn is a mirroring followed by a transposition, which all of a group share.
        """
        crop_key, flip_key, turn_key, _ = jax.random.split(key, 4)
        side_key, aspect_key, place_key = jax.random.split(crop_key, 3)
        canvas, output = (jnp.asarray(shape, jnp.float32) for shape in shapes)
        window = canvas
        if self.crop is not None:
            window = draw_crop(side_key, self.crop, output)
        if self.scale is not None:
            keys = (side_key, aspect_key)
            window = draw_scaled(keys, self.scale, self.aspect_jitter, canvas, output)
        else:
            jitter = jax.random.uniform(aspect_key, minval=-1, maxval=1) * self.aspect_jitter
            window = window * jnp.stack([jnp.ones(()), 1 + jitter])
        if may_differ(self.placed, 1):
            drawn = jax.random.uniform(jax.random.fold_in(place_key, 0)) < self.placed
            window = jnp.where(drawn, window, canvas)
        window = window * (region.size / output)
        if self.mosaic:
            least, most = self.mosaic_zoom
            zoom_key = jax.random.fold_in(side_key, 0)
            zoom = jax.random.uniform(zoom_key, minval=least, maxval=most)
            smaller = jnp.minimum(1 / zoom, (canvas / window).min())
            window = jnp.where(mix == MOSAIC, window * smaller, window)
        origin = jax.random.uniform(place_key, (2,)) * (canvas - window)
        scale = region.size / window

        half_turn = jnp.bool_(False)
        if self.quarter_turns:
            half_turn = jax.random.randint(turn_key, (), 0, 4) >= 2
        flip = jax.random.uniform(flip_key) < self.flip
        mirror = jnp.stack([half_turn, half_turn ^ is_turned ^ flip])
        return Placement(region, scale, -origin * scale, mirror)

    def _finish(self, key: Array, image: Array, is_turned: Array) -> Array:
        """Turns and recolours an image of values of 0–255; returns those of 0–1."""
        image = image / 255
        if self.quarter_turns:
            image = jnp.where(is_turned, image.swapaxes(0, 1), image)
        return self._recolour(jax.random.split(key, 4)[3], image)

    def _recolour(self, key: Array, image: Array) -> Array:
        changed = image
        if self.hsv is not None:
            changed = change_hsv(jax.random.fold_in(key, 0), image, self.hsv)
        changes = (self.brightness, self.contrast, self.saturation, self.hue)
        if any(may_differ(change, 0) for change in changes):
            changed = change_colours(key, changed, *changes)
        if may_differ(self.recoloured, 1):
            drawn = jax.random.uniform(jax.random.fold_in(key, 1)) < self.recoloured
            changed = jnp.where(drawn, changed, image)
        return changed

    def _limit(self, boxes: Array, classes: Array) -> tuple[Array, Array, Array | None]:
        """Clears padding, and leaves `max_boxes` rows; returns also how many boxes have none."""
        boxes = jnp.where((classes >= 0)[:, None], boxes, 0)
        if self.max_boxes is None or self.max_boxes >= len(classes):
            return boxes, classes, None
        order = jnp.argsort(classes < 0, stable=True)[: self.max_boxes]
        excess = jnp.maximum((classes >= 0).sum() - self.max_boxes, 0)
        return boxes[order], classes[order], excess
