-- Orthanc sends each stable study to the node, and of it only the series that the node takes.
local accepted = { CT = true, SEG = true, SR = true }

function OnStableStudy(studyId, tags, metadata)
   local series = {}
   for _, item in ipairs(ParseJson(RestApiGet('/studies/' .. studyId .. '/series'))) do
      if accepted[item['MainDicomTags']['Modality']] then
         table.insert(series, item['ID'])
      end
   end
   if #series > 0 then
      local job = { Resources = series, Asynchronous = true, Permissive = true }
      RestApiPost('/modalities/ggntf/store', DumpJson(job))
   end
end
