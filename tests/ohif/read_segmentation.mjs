// node bundle.mjs SEG OUT.json CT-FILE...: the labels that OHIF's parser (@cornerstonejs/adapters) puts on each image, as JSON.
import './browser.mjs';
import fs from 'node:fs';
import { adaptersSEG } from '@cornerstonejs/adapters';
import { metaData } from '@cornerstonejs/core';
import { data } from 'dcmjs';

const [segmentation, output, ...paths] = process.argv.slice(2);
const one = (value) => (Array.isArray(value) ? value[0] : value);
const numbers = (value) => [].concat(value).map(Number);

function bytesOf(path) {
  const content = fs.readFileSync(path);
  return content.buffer.slice(content.byteOffset, content.byteOffset + content.byteLength);
}

// What the viewer knows of every image of the CT; the frames of a multi-frame file are images of their own.
const images = new Map();
for (const path of paths) {
  const header = data.DicomMetaDictionary.naturalizeDataset(data.DicomMessage.readFile(bytesOf(path)).dict);
  if (!(header.NumberOfFrames > 1)) {
    images.set(`wadouri:${path}`, header);
    continue;
  }
  const shared = one(header.SharedFunctionalGroupsSequence);
  header.PerFrameFunctionalGroupsSequence.forEach((frame, index) =>
    images.set(`wadouri:${path}?frame=${index + 1}`, {
      ...header,
      frame: index + 1,
      ImagePositionPatient: one(frame.PlanePositionSequence).ImagePositionPatient,
      ImageOrientationPatient: one(shared.PlaneOrientationSequence).ImageOrientationPatient,
      PixelSpacing: one(shared.PixelMeasuresSequence).PixelSpacing,
    })
  );
}

const modules = {
  instance: (image) => image,
  generalSeriesModule: (image) => ({ seriesInstanceUID: image.SeriesInstanceUID, modality: image.Modality }),
  generalImageModule: (image) => ({ sopInstanceUID: image.SOPInstanceUID }),
  imagePixelModule: () => ({ bitsAllocated: 16, bitsStored: 16, highBit: 15, samplesPerPixel: 1 }),
  imagePlaneModule: (image) => ({
    rows: image.Rows,
    columns: image.Columns,
    rowCosines: numbers(image.ImageOrientationPatient).slice(0, 3),
    columnCosines: numbers(image.ImageOrientationPatient).slice(3),
    imagePositionPatient: numbers(image.ImagePositionPatient),
    rowPixelSpacing: numbers(image.PixelSpacing)[0],
    columnPixelSpacing: numbers(image.PixelSpacing)[1],
    frameOfReferenceUID: image.FrameOfReferenceUID,
  }),
};
const get = (type, id) => (images.has(id) ? modules[type]?.(images.get(id)) : undefined);
metaData.addProvider(get, 10000);

const read = await adaptersSEG.Cornerstone3D.Segmentation.createFromDICOMSegBuffer(
  [...images.keys()],
  bytesOf(segmentation),
  { metadataProvider: { get } }
);
const layers = read.labelMapImages.flat().map((labels) => {
  const { SOPInstanceUID, frame } = images.get(labels.referencedImageId);
  const values = Array.from(labels.voxelManager.getScalarData());
  return { image: SOPInstanceUID, frame: frame ?? null, voxels: values.flatMap((label, at) => (label ? [[at, label]] : [])) };
});
const names = read.segMetadata.data.filter(Boolean).map((segment) => segment.SegmentLabel);
fs.writeFileSync(output, JSON.stringify({ names, layers: layers.filter((layer) => layer.voxels.length) }));
process.exit(0);
