-- Orthanc sends each stable study to the node, and of it only the series that the node takes.
local accepted = { CT = true, SEG = true, SR = true }

function OnStableStudy(studyId, tags, metadata)
   for _, series in ipairs(ParseJson(RestApiGet('/studies/' .. studyId .. '/series'))) do
      if accepted[series['MainDicomTags']['Modality']] then
         SendToModality(series['ID'], 'ggntf')
      end
   end
end
